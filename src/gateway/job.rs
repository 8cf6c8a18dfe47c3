//! Runs work that may block (HTTP, TLS handshakes) on threads of its own, so that the poll loop
//! never waits.
//!
//! A job reports through a channel and wakes the loop with an eventfd(2). Threads exist only while
//! there is something to wait for: an idle gateway has none.

use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

/// Stack of a job's thread, in bytes. TLS and HTTP need far less than the default of 2 MiB.
pub const STACK: usize = 512 * 1024;

/// Tells a running job that its result is no longer wanted.
#[derive(Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the job to end soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The flag itself, for code that polls it.
    #[must_use]
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// True if the job has been asked to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where a job sends its reports.
pub struct Report<T> {
    to: Sender<T>,
    wake: Arc<EventFd>,
}

impl<T> Report<T> {
    /// Sends one report to the loop.
    pub fn send(&self, report: T) {
        // The loop is gone only when the process is about to end.
        if self.to.send(report).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}

/// All jobs of a gateway.
pub struct Jobs<T> {
    to: Sender<T>,
    from: Receiver<T>,
    wake: Arc<EventFd>,
}

impl<T: Send + 'static> Jobs<T> {
    /// Creates it, with no jobs.
    ///
    /// # Errors
    /// No eventfd can be made.
    pub fn new() -> io::Result<Self> {
        let (to, from) = channel();
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { to, from, wake: Arc::new(wake) })
    }

    /// Becomes readable when there are reports.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Starts a job.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn spawn(&self, name: &str, job: impl FnOnce(&Report<T>) + Send + 'static) -> io::Result<()> {
        let report = Report { to: self.to.clone(), wake: Arc::clone(&self.wake) };
        std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(move || job(&report))?;
        Ok(())
    }

    /// The next report, if any. Clears the wake-up first, so that no report is missed.
    pub fn next(&self) -> Option<T> {
        match self.from.try_recv() {
            Ok(report) => Some(report),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                let _ = self.wake.read();
                // A report may have arrived between the two calls.
                self.from.try_recv().ok()
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    #[test]
    fn every_report_wakes_the_loop() {
        let jobs: Jobs<usize> = Jobs::new().unwrap();
        for job in 0..8 {
            jobs.spawn("test", move |report| {
                for n in 0..100 {
                    report.send(job * 100 + n);
                }
            })
            .unwrap();
        }
        let mut got = Vec::new();
        while got.len() < 800 {
            let ready =
                poll(&mut [PollFd::new(jobs.wake_fd(), PollFlags::POLLIN)], PollTimeout::from(5000u16));
            assert_eq!(ready, Ok(1), "a report was missed after {}", got.len());
            while let Some(n) = jobs.next() {
                got.push(n);
            }
        }
        got.sort_unstable();
        assert_eq!(got, (0..800).collect::<Vec<_>>());
    }
}
