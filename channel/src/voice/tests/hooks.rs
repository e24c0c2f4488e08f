//! What frontd hears of hooks.

use super::*;

fn pre(name: &str, id: &str, input: &str) -> HookBody {
    let (tool_name, tool_use_id) = (name.to_owned(), Some(id.to_owned()));
    HookBody::PreToolUse { tool_name, tool_use_id, input: Excerpt::of(input) }
}

fn post(id: &str) -> HookBody {
    HookBody::PostToolUse {
        tool_name: "Bash".to_owned(),
        tool_use_id: Some(id.to_owned()),
        output: Excerpt::of("\"out\""),
        failed: true,
        duration_ms: Some(7),
    }
}

impl Stage {
    fn hears(&mut self, body: HookBody) -> HookEvent {
        match events(&self.hook(body)).pop() {
            Some((_, Event::Hook(event))) => event,
            other => panic!("no hook: {other:?}"),
        }
    }

    /// The tool that a request for permission is of, and the decision.
    fn asks(&mut self, name: &str, input: &str) -> (Option<String>, bool, String) {
        let (tool_name, input) = (name.to_owned(), Excerpt::of(input));
        match self.hears(HookBody::PermissionRequest { tool_name, input, server: None }) {
            HookEvent::PermissionRequest { tool_use_id, allowed, reason, .. } => {
                (tool_use_id, allowed, reason)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_tools_input_result_and_failure_are_told() {
    let mut stage = Stage::ready();
    let input = Excerpt::of("{\"a\":1}");
    let (tool_name, tool_use_id) = ("Bash".to_owned(), Some("t".to_owned()));
    let began = HookEvent::PreToolUse { tool_name, tool_use_id, input };
    assert_eq!(stage.hears(pre("Bash", "t", "{\"a\":1}")), began);
    let ended = stage.hears(post("t"));
    assert!(matches!(ended, HookEvent::PostToolUse { is_error: true, duration_ms: Some(7), .. }));
}

#[test]
fn permission_is_denied_by_name_and_given_to_our_own_tools() {
    let mut stage = Stage::ready();
    let (_, allowed, reason) = stage.asks("Bash", "{}");
    assert!(!allowed && reason.contains("permission_mode"), "{reason}");
    assert!(stage.asks("mcp__synthesis__reply", "{}").1);
}

#[test]
fn a_request_for_permission_is_of_the_tool_that_began_with_its_name_and_input() {
    let mut stage = Stage::ready();
    for (name, tool, input) in [("Bash", "a", "1"), ("Bash", "b", "2"), ("Write", "c", "1")] {
        stage.hook(pre(name, tool, input));
    }
    let of = |stage: &mut Stage, name: &str, input: &str| stage.asks(name, input).0;
    assert_eq!(of(&mut stage, "Bash", "1").as_deref(), Some("a"));
    assert_eq!(of(&mut stage, "Bash", "changed").as_deref(), Some("b"), "the latest of the name");
    assert_eq!(of(&mut stage, "Bash", "2"), None, "a denied tool is over");
    stage.hook(post("c"));
    assert_eq!(of(&mut stage, "Write", "1"), None, "and so is one that ended");
    stage.hook(pre("Bash", "d", "1"));
    stage.prompt(&tag("m"), "p");
    assert_eq!(of(&mut stage, "Bash", "1"), None, "or was of another turn");
}

#[test]
fn tools_that_never_end_are_not_remembered_for_ever() {
    let mut stage = Stage::ready();
    for number in 0..1000 {
        stage.hook(pre(&format!("T{number}"), &format!("t{number}"), "{}"));
    }
    assert_eq!(stage.asks("T1", "{}").0, None);
    assert_eq!(stage.asks("T999", "{}").0.as_deref(), Some("t999"));
}

#[test]
fn displayed_text_names_its_turn_and_is_no_receipt() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    stage.prompt(&tag("m1"), "p1");
    stage.stop("end", "p1");
    stage.inbound("m2");
    let piece = |prompt: &str| HookBody::MessageDisplay {
        prompt_id: Some(prompt.to_owned()),
        message_id: "d".to_owned(),
        index: 3,
        delta: Excerpt::of("text"),
        last: true,
    };
    let out = stage.hook(piece("p1"));
    let late = HookEvent::MessageDisplay {
        turn: Some(id("m1")),
        message_id: "d".to_owned(),
        index: 3,
        delta: Excerpt::of("text"),
        r#final: true,
    };
    assert_eq!(events(&out).len(), 1, "of the turn before: m2 is not received");
    assert_eq!(events(&out)[0].1, Event::Hook(late));
    let unknown = stage.hears(piece("p9"));
    assert!(matches!(unknown, HookEvent::MessageDisplay { turn: None, .. }));
}

#[test]
fn compaction_is_told() {
    let mut stage = Stage::ready();
    assert_eq!(stage.hears(HookBody::PreCompact {}), HookEvent::Compacting {});
    assert_eq!(stage.hears(HookBody::PostCompact {}), HookEvent::Compacted {});
}

#[test]
fn exact_tokens_are_looked_for_when_the_turn_has_ended_and_told_when_found() {
    let mut stage = Stage::ready();
    stage.inbound("m1");
    stage.prompt(&tag("m1"), "p1");
    let counts = |actions: &[Action]| {
        let count = |action: &Action| match action {
            Action::Count(message) => Some(message.clone()),
            _ => None,
        };
        actions.iter().filter_map(count).collect::<Vec<_>>()
    };
    assert_eq!(counts(&stage.stop("end", "p1")), [Some(id("m1"))]);
    assert_eq!(counts(&stage.stop("end", "unknown")), [None]);
    assert!(counts(&stage.hook(tool())).is_empty());
    let usage = TokenUsage { output_tokens: 3, ..TokenUsage::default() };
    let out = stage.input(Input::Counted { message_id: id("m1"), usage });
    let told = Event::Usage { message_id: id("m1"), usage, exact: true };
    assert_eq!(events(&out).pop().unwrap().1, told);
}
