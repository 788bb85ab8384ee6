//! Ctrl-C and its kin: what is unfinished is removed before the command ends.

use std::future::Future;
use std::process::exit;

use crate::interrupt::Interrupts;

/// Runs work to its end. On SIGINT, SIGTERM or SIGHUP it is dropped, which removes unfinished files, and the
/// process ends with 128 and the signal's number, as shells expect.
pub(super) async fn until<T>(work: impl Future<Output = T>) -> T {
    let mut signals = Interrupts::listen();
    let number = tokio::select! {
        biased;
        done = work => return done,
        number = signals.next() => number,
    };
    // The work is gone with the select. The runtime is not waited for: a thread of it may read from a
    // terminal for ever.
    eprintln!("twinkeep: interrupted; nothing unfinished was left");
    exit(128 + number)
}
