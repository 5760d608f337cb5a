//! Tasks that live as long as somebody wants them to.

use tokio::task::JoinHandle;

/// Tasks that go on until this is dropped. Only for those that may be aborted at any `await`.
#[derive(Debug, Default)]
pub struct Tasks(Vec<JoinHandle<()>>);

impl From<Vec<JoinHandle<()>>> for Tasks {
    fn from(handles: Vec<JoinHandle<()>>) -> Self {
        Self(handles)
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}
