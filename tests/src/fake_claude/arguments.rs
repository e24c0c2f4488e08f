//! The command line, as far as Synthesis uses the real CLI's. Pure. What the real CLI would
//! refuse is refused in its words; a positional argument is refused too, since Synthesis never
//! passes one and a swallowed or leaked value would show as one.

use std::path::PathBuf;

use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) channels: Vec<String>,
    pub(super) mcp_config: Option<PathBuf>,
    pub(super) strict_mcp_config: bool,
    pub(super) setting_sources: Option<String>,
    pub(super) settings: Option<PathBuf>,
    pub(super) conversation: Conversation,
    pub(super) permission_mode: String,
    pub(super) skip_permissions: bool,
    pub(super) allowed_tools: Vec<String>,
    pub(super) debug_file: Option<PathBuf>,
    pub(super) model: String,
    /// Behind the system prompt.
    pub(super) append_system_prompt_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversation {
    New(Uuid),
    Resumed(Uuid),
}

impl Conversation {
    pub(super) fn id(self) -> Uuid {
        match self {
            Self::New(id) | Self::Resumed(id) => id,
        }
    }
}

/// Why a command line is refused; the text is the real CLI's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("error: unknown option '{0}'")]
    UnknownOption(String),
    #[error("error: option '{0}' argument missing")]
    MissingValue(String),
    #[error("error: unexpected argument '{0}'")]
    Positional(String),
    #[error("Error: Invalid session ID. Must be a valid UUID.")]
    InvalidSessionId,
    #[error(
        "error: option '--permission-mode <mode>' argument '{0}' is invalid. Allowed choices are \
         acceptEdits, auto, bypassPermissions, manual, dontAsk, plan."
    )]
    UnknownMode(String),
}

/// `default` is not among the choices that the CLI names, but it takes it.
const MODES: [&str; 7] =
    ["acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "manual", "plan"];

/// Reads what follows the program's name.
pub(super) fn parse(arguments: &[String]) -> Result<Arguments, Refusal> {
    let mut found = Arguments {
        channels: Vec::new(),
        mcp_config: None,
        strict_mcp_config: false,
        setting_sources: None,
        settings: None,
        conversation: Conversation::New(Uuid::new_v4()),
        permission_mode: "default".to_owned(),
        skip_permissions: false,
        allowed_tools: Vec::new(),
        debug_file: None,
        model: "claude-opus-5-5".to_owned(),
        append_system_prompt_file: None,
    };
    let mut rest = arguments;
    while let [argument, after @ ..] = rest {
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            Some(_) | None => (argument.as_str(), None),
        };
        rest = after;
        match name {
            "--strict-mcp-config" => found.strict_mcp_config = true,
            "--dangerously-skip-permissions" => found.skip_permissions = true,
            "--dangerously-load-development-channels" => {
                found.channels = several(name, inline, &mut rest)?;
            }
            "--allowedTools" | "--allowed-tools" => {
                found.allowed_tools = several(name, inline, &mut rest)?;
            }
            "--mcp-config" => {
                found.mcp_config = several(name, inline, &mut rest)?.pop().map(PathBuf::from);
            }
            "--setting-sources" => found.setting_sources = Some(one(name, inline, &mut rest)?),
            "--settings" => found.settings = Some(one(name, inline, &mut rest)?.into()),
            "--debug-file" => found.debug_file = Some(one(name, inline, &mut rest)?.into()),
            "--append-system-prompt-file" => {
                found.append_system_prompt_file = Some(one(name, inline, &mut rest)?.into());
            }
            "--system-prompt-snapshot" => {
                one(name, inline, &mut rest)?;
            }
            "--model" => found.model = one(name, inline, &mut rest)?,
            "--permission-mode" => found.permission_mode = mode(one(name, inline, &mut rest)?)?,
            "--session-id" => {
                found.conversation = Conversation::New(uuid(&one(name, inline, &mut rest)?)?);
            }
            "--resume" => {
                found.conversation = Conversation::Resumed(uuid(&one(name, inline, &mut rest)?)?);
            }
            _ if argument.starts_with('-') => {
                return Err(Refusal::UnknownOption(argument.clone()));
            }
            _ => return Err(Refusal::Positional(argument.clone())),
        }
    }
    Ok(found)
}

/// A single value; the next argument counts as one even when it begins with a dash.
fn one(name: &str, inline: Option<String>, rest: &mut &[String]) -> Result<String, Refusal> {
    if let Some(value) = inline {
        return Ok(value);
    }
    let [value, after @ ..] = *rest else { return Err(Refusal::MissingValue(name.to_owned())) };
    *rest = after;
    Ok(value.clone())
}

/// All values up to the next option, as the CLI's variadic options take them.
fn several(
    name: &str,
    inline: Option<String>,
    rest: &mut &[String],
) -> Result<Vec<String>, Refusal> {
    let mut values: Vec<String> = inline.into_iter().collect();
    while let [value, after @ ..] = *rest {
        if value.starts_with('-') {
            break;
        }
        values.push(value.clone());
        *rest = after;
    }
    if values.is_empty() { Err(Refusal::MissingValue(name.to_owned())) } else { Ok(values) }
}

fn uuid(text: &str) -> Result<Uuid, Refusal> {
    Uuid::parse_str(text).map_err(|_| Refusal::InvalidSessionId)
}

fn mode(text: String) -> Result<String, Refusal> {
    if MODES.contains(&text.as_str()) { Ok(text) } else { Err(Refusal::UnknownMode(text)) }
}

/// Does a rule of `--allowedTools` name this tool? Rules with arguments (`Bash(git *)`) match
/// their tool whole: the fake knows no arguments.
pub(super) fn allows(rules: &[String], tool: &str) -> bool {
    rules.iter().flat_map(|rule| rule.split([',', ' '])).any(|rule| {
        let name = rule.split('(').next().unwrap_or(rule);
        match name.strip_suffix('*') {
            Some(prefix) => !prefix.is_empty() && tool.starts_with(prefix),
            None => name == tool,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    const ID: &str = "11111111-2222-4333-8444-555555555555";

    #[test]
    fn the_command_line_of_launch_is_understood() {
        let parsed = parse(&words(&format!(
            "--dangerously-load-development-channels server:synthesis --mcp-config /m.json \
             --strict-mcp-config --setting-sources user --settings /s.json --resume {ID} \
             --permission-mode acceptEdits --allowedTools Read Edit Bash mcp__synthesis__* \
             --debug-file /d.log --model=opus"
        )))
        .unwrap();
        assert_eq!(parsed.channels, ["server:synthesis"]);
        assert_eq!(parsed.allowed_tools.len(), 4);
        assert_eq!(parsed.debug_file, Some("/d.log".into()));
        assert_eq!(parsed.model, "opus");
        assert!(matches!(parsed.conversation, Conversation::Resumed(id) if id.to_string() == ID));
    }

    #[test]
    fn what_the_cli_refuses_is_refused() {
        let refused = |text: &str| parse(&words(text)).unwrap_err();
        assert_eq!(refused("--frobnicate"), Refusal::UnknownOption("--frobnicate".into()));
        assert_eq!(refused("--session-id zzz"), Refusal::InvalidSessionId);
        assert_eq!(refused("--settings"), Refusal::MissingValue("--settings".into()));
        assert_eq!(refused("--strict-mcp-config hi"), Refusal::Positional("hi".into()));
        assert_eq!(refused("--permission-mode x"), Refusal::UnknownMode("x".into()));
    }

    #[test]
    fn rules_match_whole_names_or_prefixes() {
        let rules = words("Read Bash(git:*) mcp__synthesis__*");
        assert!(allows(&rules, "mcp__synthesis__reply") && allows(&rules, "Bash"));
        assert!(!allows(&rules, "WebFetch") && !allows(&rules, "ReadAll"));
    }
}
