//! What went wrong, as a failure that tells the client whether trying again may help. Pure.

use proto::spawn::{ExitCause, RefusalCode};

use crate::run::{Failure, FailureKind};

/// Texts of the CLI's screen that name a lasting cause, with the code for the client.
const LASTING: [(&str, &str); 6] = [
    ("Not logged in", "not_logged_in"),
    ("Please run /login", "not_logged_in"),
    ("Invalid API key", "not_logged_in"),
    ("Select login method", "not_logged_in"),
    ("Unable to connect to Anthropic services", "not_set_up"),
    ("cannot be used with root/sudo privileges", "claude_refuses_root"),
];

pub fn of_skip(reason: &str) -> Failure {
    let code = if reason.contains("hooks") { "hooks_disabled" } else { "channel_gated" };
    let message = format!("claude does not take messages from Synthesis: {reason}");
    Failure::new(FailureKind::CannotStart(code), message)
}

/// `screen` is escaped already.
pub fn of_dialog(screen: &str) -> Failure {
    let code = lasting_code(screen).unwrap_or("unknown_dialog");
    let message =
        format!("claude asks something at start that only a person can answer:\n{screen}");
    Failure::new(FailureKind::CannotStart(code), message)
}

/// An exit before claude was ready.
pub fn of_exit(cause: ExitCause, screen: &str) -> Failure {
    let kind = match (cause, lasting_code(screen)) {
        (ExitCause::Oom {}, _) => FailureKind::OutOfMemory,
        (_, Some(code)) => FailureKind::CannotStart(code),
        (_, None) => FailureKind::StartFailed,
    };
    let shown = if screen.is_empty() { "nothing was on its screen" } else { screen };
    let by_hand =
        [FailureKind::CannotStart("not_logged_in"), FailureKind::CannotStart("not_set_up")];
    let hint = if by_hand.contains(&kind) {
        "; run it once by hand as the user that sessions run as"
    } else {
        ""
    };
    Failure::new(kind, format!("claude ended while it started ({cause}){hint}:\n{shown}"))
}

/// An exit during a turn.
pub fn of_death(cause: ExitCause) -> Failure {
    let kind = match cause {
        ExitCause::Oom {} => FailureKind::OutOfMemory,
        ExitCause::Code { .. } | ExitCause::Signal { .. } | ExitCause::Unknown {} => {
            FailureKind::ProcessEnded
        }
    };
    Failure::new(kind, format!("claude ended during the turn: {cause}"))
}

/// A `StopFailure`.
pub fn of_model_error(error: &str) -> Failure {
    if error.contains("authentication") || error.contains("Please run /login") {
        let message = format!("claude is not logged in: {error}");
        return Failure::new(FailureKind::CannotStart("not_logged_in"), message);
    }
    Failure::new(FailureKind::ModelError, format!("the model's service failed the turn: {error}"))
}

pub fn of_refusal(code: RefusalCode, message: &str) -> Failure {
    let kind = match code {
        RefusalCode::UserNotAllowed => FailureKind::CannotStart("user_not_allowed"),
        RefusalCode::NotAllowed => FailureKind::CannotStart("not_allowed"),
        RefusalCode::NotProved => FailureKind::CannotStart("not_proved"),
        RefusalCode::SandboxUnavailable => FailureKind::CannotStart("sandbox_unavailable"),
        RefusalCode::ClaudeMissing => FailureKind::CannotStart("claude_missing"),
        RefusalCode::WorkspaceNotAllowed => FailureKind::WorkspaceNotAllowed,
        RefusalCode::WorkspaceUnusable => FailureKind::WorkspaceUnusable,
        RefusalCode::Busy => FailureKind::NoSlot,
        RefusalCode::InUse
        | RefusalCode::StillRunning
        | RefusalCode::NoSession
        | RefusalCode::AuditUnavailable
        | RefusalCode::StartFailed => FailureKind::StartFailed,
    };
    Failure::new(kind, message)
}

fn lasting_code(screen: &str) -> Option<&'static str> {
    LASTING.iter().find(|(text, _)| screen.contains(text)).map(|(_, code)| *code)
}
