//! What has to be known of an unfinished line to tell what its end will be.

/// The octets of a line seen so far, its LF not yet among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineState {
    /// None.
    Start,
    /// A single CR.
    OnlyCr,
    /// The last one is no CR.
    Text,
    /// The last one of several is a CR.
    TextCr,
}

impl LineState {
    /// The state after `octets` more, none of which is a LF.
    pub(super) fn then(self, octets: &[u8]) -> LineState {
        match octets {
            [] => self,
            [b'\r'] if self == LineState::Start => LineState::OnlyCr,
            [.., b'\r'] => LineState::TextCr,
            _ => LineState::Text,
        }
    }

    /// A LF now would end an empty line.
    pub(super) fn is_empty_line(self) -> bool {
        matches!(self, LineState::Start | LineState::OnlyCr)
    }

    /// The line's CR, if a LF came now, has been seen.
    pub(super) fn has_cr(self) -> bool {
        matches!(self, LineState::OnlyCr | LineState::TextCr)
    }
}
