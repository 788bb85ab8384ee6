//! Who goes first on a core.

use rustix::process::{getpriority_process, setpriority_process};

/// Niceness of a load generator that goes ahead of the nodes on its core: it has 28 times their weight (sched(7)).
const AHEAD: i32 = -15;

/// The calling thread goes ahead of others on its core until this is dropped: for a load generator whose own waits
/// would count as the server's. Whatever it starts meanwhile would do so too.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// Niceness to go back to.
    before: Option<i32>,
}

impl Ahead {
    /// Goes ahead where the kernel allows it; says so where not.
    pub(crate) fn go() -> Self {
        // On Linux "this process" is the calling thread alone.
        let moved = getpriority_process(None)
            .and_then(|before| setpriority_process(None, AHEAD).map(|()| before));
        if let Err(error) = moved {
            println!(
                "the load generator may be held up by the nodes on its core, which dampens the ratio: \
                 it cannot go ahead of them ({error}); it needs CAP_SYS_NICE, which root has"
            );
        }
        Self { before: moved.ok() }
    }

    /// Tells whether it does go ahead.
    pub(crate) fn is_ahead(&self) -> bool {
        self.before.is_some()
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // Going back is never refused.
            let _ = setpriority_process(None, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_goes_back_to_where_it_was() {
        // A thread of its own: what is set here stays with it.
        let went = std::thread::spawn(|| {
            let before = getpriority_process(None).unwrap();
            let ahead = Ahead::go();
            let meanwhile = getpriority_process(None).unwrap();
            let was_ahead = ahead.is_ahead();
            drop(ahead);
            (before, was_ahead, meanwhile, getpriority_process(None).unwrap())
        });
        let (before, was_ahead, meanwhile, after) = went.join().unwrap();
        assert_eq!(after, before);
        assert_eq!(meanwhile, if was_ahead { AHEAD } else { before });
    }
}
