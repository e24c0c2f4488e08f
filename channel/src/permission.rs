//! What claude may do that its settings do not allow: the answer to the `PermissionRequest` hook.
//! Nobody sits at the terminal, so it is given at once. Pure: the hook's process prints the
//! decision, channel reports it.

use serde_json::json;

/// Tools of this very server, whatever the permission mode: plan mode asks for each of them, and
/// without `reply` nobody would hear the plan.
const OWN_SERVER: &str = "synthesis";
const OWN_TOOLS: &str = "mcp__synthesis__";

const OWN: &str = "a tool of Synthesis itself";
const DENIED: &str = "Nobody can answer permission requests in this session. What may run without asking is decided by the settings permission_mode and allowed_tools of Synthesis. Go on without this action, or say in your reply that it needs another permission_mode.";
/// Two tools are questions to a person; a denial alone would leave claude without a way to ask.
const QUESTION: &str = "Nobody sits at this terminal. Ask with the reply tool, final=true, and end your turn: the answer comes as the next message. What may run without asking is decided by the settings permission_mode and allowed_tools of Synthesis.";
const PLAN: &str = "Nobody can approve a plan at this terminal. Send it with the reply tool, final=true, and end your turn. The setting permission_mode of Synthesis decides whether this session may carry it out.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// What claude is told, or why it is allowed.
    pub(crate) reason: &'static str,
}

/// `server` is the MCP server that the CLI says the tool is of.
pub(crate) fn decide(tool: &str, server: Option<&str>) -> Decision {
    let own = tool.strip_prefix(OWN_TOOLS).is_some_and(|name| !name.contains("__"))
        && server.is_none_or(|server| server == OWN_SERVER);
    match tool {
        _ if own => Decision { allowed: true, reason: OWN },
        "AskUserQuestion" => Decision { allowed: false, reason: QUESTION },
        "ExitPlanMode" => Decision { allowed: false, reason: PLAN },
        _ => Decision { allowed: false, reason: DENIED },
    }
}

impl Decision {
    /// What the hook prints.
    pub(crate) fn answer(self) -> String {
        let decision = if self.allowed {
            json!({ "behavior": "allow" })
        } else {
            json!({ "behavior": "deny", "message": self.reason })
        };
        let output = json!({ "hookEventName": "PermissionRequest", "decision": decision });
        json!({ "hookSpecificOutput": output }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_tools_are_allowed() {
        for (tool, server) in [
            ("mcp__synthesis__reply", None),
            ("mcp__synthesis__reply", Some("synthesis")),
            ("mcp__synthesis__weather", Some("synthesis")),
        ] {
            assert!(decide(tool, server).allowed, "{tool}");
        }
        for (tool, server) in [
            ("Bash", None),
            ("reply", None),
            ("", None),
            ("mcp__synthesis", None),
            ("mcp__synthesis2__reply", None),
            ("mcp__other__mcp__synthesis__reply", None),
            ("mcp__synthesis__evil__reply", None),
            ("mcp__synthesis__reply", Some("synthesis__reply")),
            ("mcp__synthesis__reply", Some("")),
        ] {
            assert!(!decide(tool, server).allowed, "{tool} {server:?}");
        }
    }

    #[test]
    fn every_denial_names_the_setting_and_every_answer_is_the_hooks_json() {
        for tool in ["Bash", "AskUserQuestion", "ExitPlanMode", "mcp__synthesis__reply"] {
            let decision = decide(tool, None);
            let said: serde_json::Value = serde_json::from_str(&decision.answer()).unwrap();
            let said = &said["hookSpecificOutput"];
            assert_eq!(said["hookEventName"], "PermissionRequest");
            if decision.allowed {
                assert_eq!(said["decision"], json!({"behavior": "allow"}));
            } else {
                assert_eq!(said["decision"]["behavior"], "deny");
                let message = said["decision"]["message"].as_str().unwrap();
                assert!(message.contains("permission_mode"), "{message}");
            }
        }
    }
}
