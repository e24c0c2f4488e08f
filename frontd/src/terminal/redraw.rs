//! How a program is made to draw its whole screen again: by another size of its terminal, and then
//! the true one. One row less leaves every line as wide as it was, so that whatever is drawn in
//! between is what will stand there in the end. The CLI (2.1.329) draws everything anew within
//! 0.1 s, but not if it sees the second size only: the first must have had its effect.

use std::os::fd::AsFd;
use std::time::Duration;

use proto::spawn::TerminalSize;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::sync::Notify;
use tokio::time::timeout;

/// What was left in the terminal while nobody read it comes first, and is no answer.
const QUIET: Duration = Duration::from_millis(50);
/// A program that writes without end gets no quieter.
const QUIET_WITHIN: Duration = Duration::from_millis(500);
/// One that draws nothing for this long does not listen.
const DRAWN_WITHIN: Duration = Duration::from_secs(2);

/// A terminal of that many rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cells {
    rows: u16,
    columns: u16,
}

/// `output` rings at each read of the terminal, which has its size again at the end.
///
/// # Errors
/// Those of `resize`.
pub(super) async fn provoke(
    size: TerminalSize,
    output: &Notify,
    resize: impl Fn(Cells) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let (rows, columns) = (size.rows(), size.columns());
    let _ = timeout(QUIET_WITHIN, quiet(output)).await;
    let drawn = output.notified();
    tokio::pin!(drawn);
    // From here on, so that an answer cannot come too early to be heard.
    drawn.as_mut().enable();
    resize(Cells { rows: rows - 1, columns })?;
    let _ = timeout(DRAWN_WITHIN, drawn).await;
    let _ = timeout(QUIET_WITHIN, quiet(output)).await;
    resize(Cells { rows, columns })
}

async fn quiet(output: &Notify) {
    while timeout(QUIET, output.notified()).await.is_ok() {}
}

/// TIOCSWINSZ: the terminal's foreground group gets SIGWINCH if it is another size than before.
pub(super) fn resize(leader: &impl AsFd, cells: Cells) -> std::io::Result<()> {
    let Cells { rows, columns } = cells;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(leader, size)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn sizes(output: &Notify, during: impl Future<Output = ()>) -> Vec<u16> {
        let asked = Mutex::new(Vec::new());
        let resize = |cells: Cells| {
            asked.lock().unwrap().push(cells.rows);
            Ok(())
        };
        let size = TerminalSize::new(40, 120).unwrap();
        let (provoked, ()) = tokio::join!(provoke(size, output, resize), during);
        provoked.unwrap();
        asked.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_draws_nothing_gets_its_size_back() {
        assert_eq!(sizes(&Notify::new(), async {}).await, [39, 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_left_in_the_terminal_is_no_answer() {
        let output = Notify::new();
        let begin = tokio::time::Instant::now();
        let backlog = async {
            for _ in 0..3 {
                tokio::time::sleep(QUIET / 2).await;
                output.notify_waiters();
            }
        };
        assert_eq!(sizes(&output, backlog).await, [39, 40]);
        assert!(begin.elapsed() >= DRAWN_WITHIN, "it was taken for the redraw");
    }

    #[tokio::test(start_paused = true)]
    async fn the_true_size_comes_after_the_answer_and_not_before() {
        let output = Notify::new();
        let begin = tokio::time::Instant::now();
        let answer = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            output.notify_waiters();
        };
        assert_eq!(sizes(&output, answer).await, [39, 40]);
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_never_stops_is_asked_all_the_same() {
        let output = Notify::new();
        let end = tokio::time::Instant::now() + Duration::from_secs(5);
        let endless = async {
            while tokio::time::Instant::now() < end {
                tokio::time::sleep(QUIET / 2).await;
                output.notify_waiters();
            }
        };
        assert_eq!(sizes(&output, endless).await, [39, 40]);
    }

    #[test]
    fn a_size_reaches_the_terminal() {
        let pty = nix::pty::openpty(None, None).unwrap();
        resize(&pty.master, Cells { rows: 39, columns: 120 }).unwrap();
        let size = rustix::termios::tcgetwinsize(&pty.slave).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (39, 120));
    }
}
