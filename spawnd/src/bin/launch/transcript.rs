//! Does the conversation have a past? `--resume` without a transcript and `--session-id` with one
//! both make the CLI exit, so the question is asked of the same file that the CLI will look for:
//! `<config>/projects/<slug of the physical folder>/<uuid>.jsonl`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use proto::ids::{AbsolutePath, ConversationId};
use proto::launch::Plan;

use crate::stop::Stop;

/// The lines before the first message are short; a file that is longer has one.
const BEGINNING: u64 = 1024 * 1024;
/// The CLI cuts longer slugs here and adds a hash.
const SLUG_UNITS: usize = 200;

/// After the workspace was entered, as the user.
///
/// # Errors
/// When the current folder has no name.
pub(crate) fn exists(plan: &Plan) -> Result<bool, Stop> {
    let folder = std::env::current_dir().map_err(Stop::Transcript)?;
    let path = path(plan.config_dir.as_ref(), &plan.home, &folder, plan.conversation);
    Ok(has_messages(&path))
}

/// The CLI makes the file with a few lines about itself and writes messages late. One that ended
/// in between leaves a file that it would neither resume nor let be: it is removed.
fn has_messages(path: &Path) -> bool {
    // A folder or an unreadable one is no conversation that could be resumed.
    if !std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return false;
    }
    let Ok(file) = std::fs::File::open(path) else { return false };
    let mut beginning = Vec::new();
    if file.take(BEGINNING).read_to_end(&mut beginning).is_err() {
        return false;
    }
    let message = [&br#""type":"user""#[..], br#""type":"assistant""#];
    let holds = |word: &[u8]| beginning.windows(word.len()).any(|part| part == word);
    if beginning.len() as u64 == BEGINNING || message.into_iter().any(holds) {
        return true;
    }
    // What cannot be removed makes the CLI say so itself.
    let _ = std::fs::remove_file(path);
    false
}

fn path(
    config_dir: Option<&AbsolutePath>,
    home: &AbsolutePath,
    folder: &Path,
    conversation: ConversationId,
) -> PathBuf {
    let config = match config_dir {
        Some(folder) => folder.as_path().to_owned(),
        None => home.as_path().join(".claude"),
    };
    let slug = slug(&folder.to_string_lossy());
    config.join("projects").join(slug).join(format!("{conversation}.jsonl"))
}

/// The CLI's own rule, in UTF-16 units as JavaScript counts: what is not `[a-zA-Z0-9]` becomes
/// `-`; over 200 units the rest is replaced by the base-36 digits of a 31x hash of the whole.
fn slug(folder: &str) -> String {
    let units: Vec<u16> = folder.encode_utf16().collect();
    let plain = |unit: &u16| {
        u8::try_from(*unit).ok().filter(u8::is_ascii_alphanumeric).map_or('-', char::from)
    };
    let mut slug: String = units.iter().take(SLUG_UNITS).map(plain).collect();
    if units.len() > SLUG_UNITS {
        let hash = units
            .iter()
            .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(*unit)));
        slug.push('-');
        slug.push_str(&base_36(hash.unsigned_abs()));
    }
    slug
}

fn base_36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit(number % 36, 36));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_underscores_become_dashes() {
        assert_eq!(slug("/home/al/my_app.v2"), "-home-al-my-app-v2");
        assert_eq!(slug("/"), "-");
    }

    #[test]
    fn a_character_outside_the_basic_plane_is_two_dashes() {
        assert_eq!(slug("/é"), "--");
        assert_eq!(slug("/x\u{1f600}y"), "-x--y");
    }

    #[test]
    fn a_file_without_a_message_is_no_past_and_goes() {
        let folder = std::env::temp_dir().join(format!("transcript-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("x.jsonl");
        let about_itself = "{\"type\":\"mode\",\"mode\":\"normal\"}\n{\"type\":\"tools-used\"}\n";
        std::fs::write(&file, about_itself).unwrap();
        assert!(!has_messages(&file) && !file.exists());
        std::fs::write(&file, format!("{about_itself}{{\"type\":\"user\",\"message\":{{}}}}\n"))
            .unwrap();
        assert!(has_messages(&file) && file.exists());
        assert!(!has_messages(&folder) && folder.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// Expected values computed with the CLI's own function in Node.
    #[test]
    fn a_long_path_is_cut_and_hashed() {
        let at_limit = format!("/{}", "a".repeat(199));
        assert_eq!(slug(&at_limit), format!("-{}", "a".repeat(199)));
        let long = format!("/{}", "a".repeat(200));
        assert_eq!(slug(&long), format!("-{}-{}", "a".repeat(199), "b6ymvl"));
        let mixed = format!("/home/al/{}", "d_\u{1f600}.".repeat(60));
        assert!(slug(&mixed).ends_with("-kfqqe5"), "{}", slug(&mixed));
    }

    #[test]
    fn the_config_folder_moves_the_transcript() {
        let conversation = ConversationId("6f2b0f8e-58a5-4f4e-9c42-0b8a3a1f8a11".parse().unwrap());
        let home = AbsolutePath::new("/home/al").unwrap();
        let config = AbsolutePath::new("/srv/claude").unwrap();
        let file = "6f2b0f8e-58a5-4f4e-9c42-0b8a3a1f8a11.jsonl";
        assert_eq!(
            path(None, &home, Path::new("/w.x"), conversation),
            Path::new("/home/al/.claude/projects/-w-x").join(file)
        );
        assert_eq!(
            path(Some(&config), &home, Path::new("/w"), conversation),
            Path::new("/srv/claude/projects/-w").join(file)
        );
    }
}
