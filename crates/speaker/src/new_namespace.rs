//! Tests against the real kernel, in a network namespace of their own.

use nix::sched::{CloneFlags, unshare};

/// Runs `body` on a thread in a new network namespace, which ends with it.
pub(crate) fn in_new_namespace(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("network namespaces need root: run the tests with sudo");
        body();
    });
    thread.join().unwrap();
}
