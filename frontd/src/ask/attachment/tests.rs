use super::*;

fn url(url: &str, name: Option<&str>, media_type: Option<&str>) -> Result<Attachment, BadRequest> {
    let content = FileContent::Url {
        url: url.to_owned().into(),
        name: name.map(str::to_owned),
        media_type: media_type.map(str::to_owned),
    };
    read(FilePart { param: "p.[0]".to_owned(), content })
}

fn of(media_type: &str, data: &[u8]) -> Result<Attachment, BadRequest> {
    url(&format!("data:{media_type};base64,{}", BASE64.encode(data)), None, None)
}

const GOOD: [(&str, &[u8], &str); 12] = [
    ("image/png", b"\x89PNG\r\n\x1a\nrest", "file.png"),
    ("image/jpeg", b"\xff\xd8\xff\xe0", "file.jpg"),
    ("image/jpg", b"\xff\xd8\xff\xe0", "file.jpg"),
    ("image/gif", b"GIF87a", "file.gif"),
    ("image/gif", b"GIF89a..", "file.gif"),
    ("image/webp", b"RIFF\x00\x01\x02\x03WEBPVP8 ", "file.webp"),
    ("application/pdf", b"%PDF-1.7", "file.pdf"),
    ("text/plain", "grüße\n".as_bytes(), "file.txt"),
    ("text/markdown", b"# x", "file.md"),
    ("text/csv", b"a,b", "file.csv"),
    ("application/json", b"{}", "file.json"),
    ("text/plain", b"", "file.txt"),
];

#[test]
fn each_type_is_taken_when_the_bytes_are_of_it() {
    for (media_type, data, name) in GOOD {
        let file = of(media_type, data).unwrap();
        assert_eq!((&*file.data, file.name.as_str()), (data, name));
        assert!(file.media_type == media_type || media_type == "image/jpg");
    }
}

#[test]
fn bytes_of_another_type_are_refused() {
    for (declared, _, _) in GOOD {
        for (media_type, data, _) in GOOD {
            let text = |kind: &str| !kind.starts_with("image") && kind != "application/pdf";
            let same = declared == media_type
                || declared.starts_with("image/jp") && media_type.starts_with("image/jp")
                || text(declared)
                    && std::str::from_utf8(data).is_ok_and(|text| !text.contains('\0'));
            let read = of(declared, data);
            assert_eq!(read.is_ok(), same, "{declared} {media_type}");
            assert!(read.is_ok() || read.unwrap_err().code == "unsupported_content");
        }
    }
    for cut in [b"\x89PNG\r\n\x1a".as_slice(), b"RIFF0123WEB", b"RIFF", b"\xff\xd8", b""] {
        for media_type in ["image/png", "image/webp", "image/jpeg", "image/gif", "application/pdf"]
        {
            assert!(of(media_type, cut).is_err());
        }
    }
    assert!(of("text/plain", b"a\0b").is_err());
    assert!(of("text/plain", b"a\xffb").is_err());
}

#[test]
fn other_types_and_addresses_are_refused() {
    for bad in [
        "data:text/html;base64,PGI+",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:application/octet-stream;base64,AAAA",
        "data:audio/wav;base64,AAAA",
        "data:;base64,AAAA",
        "data:base64,AAAA",
        "data:image/png,AAAA",
        "data:image/png;charset=utf-8,AAAA",
        "data:image/png;base64;x=y,iVBORw0KGgo=",
        "data:image/png;base64",
        "data:",
        "",
        "dat",
        "datä:",
        "http://127.0.0.1/a.png",
        "https://x.example/a.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "iVBORw0KGgo=",
    ] {
        let bad_request = url(bad, None, None).unwrap_err();
        assert_eq!(bad_request.code, "unsupported_content", "{bad}");
        assert_eq!(bad_request.param.as_deref(), Some("p.[0]"));
        assert!(bad_request.message.len() < 200);
    }
    let fetched = url("https://x.example/a.png", None, None).unwrap_err();
    assert!(fetched.message.contains("only data URLs are taken"), "{}", fetched.message);
    let head = format!("data:image/png;{};base64,iVBORw0KGgo=", "x".repeat(MAX_HEAD));
    assert!(url(&head, None, None).is_err());
}

#[test]
fn base64_is_strict() {
    for bad in [
        "iVBORw0KGgo",
        "iVBORw0KGgo==",
        "iVBO Rw0KGgo=",
        "iVBORw0KGgo=\n",
        "iVBORw0KGgp=",
        "_-8=",
        "%69VBORw0KGgo=",
    ] {
        let bad = url(&format!("data:image/png;base64,{bad}"), None, None).unwrap_err();
        assert_eq!(bad.code, "invalid_base64", "{}", bad.message);
    }
}

#[test]
fn the_head_may_be_written_in_other_ways() {
    for good in [
        "DATA:IMAGE/PNG;BASE64,iVBORw0KGgo=",
        "data:image/png;charset=utf-8;base64,iVBORw0KGgo=",
        "data: image/png ; base64 ,iVBORw0KGgo=",
    ] {
        assert_eq!(url(good, None, None).unwrap().media_type, "image/png");
    }
    let beside = url("data:;base64,iVBORw0KGgo=", None, Some("image/png")).unwrap();
    assert_eq!(beside.media_type, "image/png");
    // What stands in the URL counts.
    assert!(url("data:image/gif;base64,iVBORw0KGgo=", None, Some("image/png")).is_err());
}

#[test]
fn a_file_is_at_most_20_mib() {
    let of = |encoded: &str| url(&format!("data:text/plain;base64,{encoded}"), None, None);
    let triples = MAX_BYTES / 3;
    assert_eq!(MAX_BYTES - 3 * triples, 2);
    let most = "eHh4".repeat(triples) + "eHg=";
    assert_eq!(of(&most).unwrap().data.len(), MAX_BYTES);
    assert_eq!(of(&"eHh4".repeat(triples + 1)).unwrap_err().code, "file_too_large");
    // Judged before it is decoded: this would be no base64.
    assert_eq!(of(&"!".repeat(4 * triples + 8)).unwrap_err().code, "file_too_large");
}

#[test]
fn names_are_made_plain() {
    let long = "ä".repeat(200);
    for (name, wanted) in [
        ("a.png", "a.png"),
        ("My holiday (1).jpeg", "My holiday (1).jpeg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\x.pdf", "x.pdf"),
        ("/", "file.png"),
        ("", "file.png"),
        ("..", "file.png"),
        (".", "file.png"),
        (" . ", "file.png"),
        ("...hidden", "hidden"),
        (".bashrc", "bashrc"),
        ("a\u{0}b\nc\u{1b}[31m.txt", "abc[31m.txt"),
        ("a\u{202e}gnp.exe", "agnp.exe"),
        ("\u{7f}\u{85}", "file.png"),
        ("a/", "file.png"),
    ] {
        let file = url("data:image/png;base64,iVBORw0KGgo=", Some(name), None).unwrap();
        assert_eq!(file.name, wanted, "{name:?}");
    }
    for name in [long.clone(), format!("{long}.png"), format!("a.{long}"), format!(".{long}.x")] {
        let plain = plain_name(&name).unwrap();
        assert!(plain.len() <= MAX_NAME && plain.len() > MAX_NAME - 4, "{plain}");
        assert_eq!(plain.ends_with(".png"), name.ends_with(".png"));
    }
}

#[test]
fn a_type_that_is_not_taken_says_so() {
    let content = FileContent::Unsupported("audio is not taken");
    let bad = read(FilePart { param: "p".to_owned(), content }).unwrap_err();
    assert_eq!(
        (bad.code, bad.message.as_str()),
        ("unsupported_content", "`p`: audio is not taken")
    );
}
