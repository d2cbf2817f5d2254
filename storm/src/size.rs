//! The deployment sizes.

/// A deployment size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// `cuponera up` with a private Postgres.
    One,
    /// Two `cuponera-api` and two `cuponera-worker`, with Postgres, Redis, SQS and S3.
    Fleet,
}

impl Size {
    /// Both sizes.
    pub const ALL: [Self; 2] = [Self::One, Self::Fleet];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Fleet => "fleet",
        }
    }
}
