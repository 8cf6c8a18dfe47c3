//! The credit and the ends of one stream (docs/mux.md, "Streams"). No I/O.

use super::protocol::MAX_CREDIT;
use super::{Part, Violation};

/// Credit is granted again once 1/`GRANT` of the window has been read.
const GRANT: usize = 4;

#[derive(Debug, Default)]
struct Incoming {
    /// How many bytes may still come.
    credit: usize,
    /// How many bytes were read but not granted again yet.
    read: usize,
    ended: bool,
    stopped: bool,
}

/// The state of one stream, as the gateway sees it.
#[derive(Debug)]
pub(crate) struct Stream {
    window: usize,
    incoming: [Incoming; 2],
    /// How many bytes of input may still be sent; `None` before the stream is open.
    credit: Option<usize>,
    /// True when no more input goes out.
    input_ended: bool,
    /// True if the agent wants no more input.
    refused: bool,
    exited: bool,
    abandoned: bool,
}

impl Stream {
    /// Returns a stream that was asked for and isn't open yet.
    pub(crate) fn new(window: usize) -> Self {
        let part = || Incoming { credit: window, ..Incoming::default() };
        Self {
            window,
            incoming: [part(), part()],
            credit: None,
            input_ended: false,
            refused: false,
            exited: false,
            abandoned: false,
        }
    }

    /// Takes the credit of the agent's OPENED.
    ///
    /// # Errors
    /// Fails if the stream was opened before.
    pub(crate) fn opened(&mut self, window: usize) -> Result<(), Violation> {
        if self.credit.replace(window).is_some() {
            return Err(Violation("a stream was opened twice"));
        }
        Ok(())
    }

    /// Counts data of a part against its credit; returns whether there is a reader for it.
    ///
    /// # Errors
    /// Fails if the part has ended, or if its credit is exceeded.
    pub(crate) fn data(&mut self, part: Part, bytes: usize) -> Result<bool, Violation> {
        let abandoned = self.abandoned;
        let incoming = self.part(part);
        if incoming.ended {
            return Err(Violation("data after the end"));
        }
        incoming.credit =
            incoming.credit.checked_sub(bytes).ok_or(Violation("more data than it had credit for"))?;
        Ok(!incoming.stopped && !abandoned && bytes > 0)
    }

    /// Notes the end of a part.
    ///
    /// # Errors
    /// Fails if the part has ended before.
    pub(crate) fn eof(&mut self, part: Part) -> Result<(), Violation> {
        if std::mem::replace(&mut self.part(part).ended, true) {
            return Err(Violation("an end after the end"));
        }
        Ok(())
    }

    /// Notes the end of the process.
    ///
    /// # Errors
    /// Fails if the process has ended before.
    pub(crate) fn exit(&mut self) -> Result<(), Violation> {
        if std::mem::replace(&mut self.exited, true) {
            return Err(Violation("a process that ended twice"));
        }
        Ok(())
    }

    /// Adds to the credit for input, in bytes.
    ///
    /// # Errors
    /// Fails if there is no such part, if the stream isn't open, or above [`MAX_CREDIT`].
    pub(crate) fn credit(&mut self, part: u8, bytes: usize) -> Result<(), Violation> {
        let (Some(credit), 0) = (&mut self.credit, part) else {
            return Err(Violation("credit for what does not exist"));
        };
        *credit = credit
            .checked_add(bytes)
            .filter(|credit| *credit <= MAX_CREDIT)
            .ok_or(Violation("more credit than there may be"))?;
        Ok(())
    }

    /// Notes that the agent wants no more input; returns whether that is new.
    pub(crate) fn stopped(&mut self) -> bool {
        self.input_ended = true;
        !std::mem::replace(&mut self.refused, true)
    }

    /// Returns how many bytes of input may be sent.
    pub(crate) fn room(&self) -> usize {
        if self.input_ended || self.abandoned { 0 } else { self.credit.unwrap_or(0) }
    }

    /// Counts input against the credit.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.credit = self.credit.map(|credit| credit.saturating_sub(bytes));
    }

    /// Ends the input; returns whether the agent must be told.
    pub(crate) fn end_input(&mut self) -> bool {
        !std::mem::replace(&mut self.input_ended, true) && !self.abandoned
    }

    /// Stops a part whose reader is gone; returns whether the agent must be told.
    pub(crate) fn stop(&mut self, part: Part) -> bool {
        let abandoned = self.abandoned;
        let incoming = self.part(part);
        !std::mem::replace(&mut incoming.stopped, true) && !incoming.ended && !abandoned
    }

    /// Abandons the stream; returns whether the agent must be told.
    pub(crate) fn abandon(&mut self) -> bool {
        !std::mem::replace(&mut self.abandoned, true)
    }

    /// Counts bytes that were read; returns the credit to grant again, if it is time.
    pub(crate) fn consumed(&mut self, part: Part, bytes: usize) -> Option<u32> {
        let (least, abandoned) = (self.window / GRANT, self.abandoned);
        let incoming = self.part(part);
        incoming.read += bytes;
        if incoming.read < least.max(1) || incoming.ended || incoming.stopped || abandoned {
            return None;
        }
        let grant = std::mem::take(&mut incoming.read);
        incoming.credit += grant;
        u32::try_from(grant).ok()
    }

    fn part(&mut self, part: Part) -> &mut Incoming {
        let [output, error] = &mut self.incoming;
        if part.index() == 0 { output } else { error }
    }
}
