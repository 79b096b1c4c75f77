//! How the body of an S2S frame, or of a unary request or response, may be compressed.

/// A compression that both sides of a session know (`s2s.md` §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The bytes as they are.
    #[default]
    None,
    /// Zstandard.
    Zstd,
    /// Gzip.
    Gzip,
}

impl Compression {
    /// Every compression, in the order of [`Compression::index`].
    pub const ALL: [Compression; 3] = [Compression::None, Compression::Zstd, Compression::Gzip];

    /// Its place in [`Compression::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name as a content coding.
    pub const fn coding(self) -> &'static str {
        match self {
            Compression::None => "identity",
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
        }
    }
}
