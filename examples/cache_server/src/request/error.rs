//! Protocol errors.

/// Why input is not a valid request. The server closes the connection after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    ArgumentCount,
    ArgumentCountTooLong,
    ArgumentLength,
    ArgumentLengthTooLong,
    NoArgument { found: u8 },
    LineTooLong,
    UnbalancedQuotes,
    UnauthenticatedCount,
    UnauthenticatedLength,
}

impl ProtocolError {
    /// The error reply, in Redis' words.
    pub fn message(self) -> Vec<u8> {
        let text: &[u8] = match self {
            Self::ArgumentCount => b"invalid multibulk length",
            Self::ArgumentCountTooLong => b"too big mbulk count string",
            Self::ArgumentLength => b"invalid bulk length",
            Self::ArgumentLengthTooLong => b"too big bulk count string",
            Self::NoArgument { found } => &[&b"expected '$', got '"[..], &[found], b"'"].concat(),
            Self::LineTooLong => b"too big inline request",
            Self::UnbalancedQuotes => b"unbalanced quotes in request",
            Self::UnauthenticatedCount => b"unauthenticated multibulk length",
            Self::UnauthenticatedLength => b"unauthenticated bulk length",
        };
        [b"ERR Protocol error: ", text].concat()
    }
}
