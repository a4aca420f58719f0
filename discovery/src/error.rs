//! Whose fault an error is: the only thing that those who decide about a peer look at.

/// Whose fault an error is. Every error type of this crate has a `blame()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The bytes or the text do not follow the format: a broken sender, damage on the way, or a typing error.
    Malformed,
    /// The bytes are well formed, but nobody honest sends them: a false signature, an answer nobody asked for.
    Misbehaved,
    /// Well formed and honest, but not for us: an identity scheme or a protocol version that we do not know.
    Incompatible,
    /// Our own machine: a file, a socket, a full disk, a wrong argument of the caller.
    Local,
}
