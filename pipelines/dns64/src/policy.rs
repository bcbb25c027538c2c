//! Which view a client has, and what the view says about a name.

use crate::question::WireName;

/// Names with all that is under them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameSet {
    names: Vec<WireName>,
}

impl NameSet {
    /// A set of names, each in lower case.
    #[must_use]
    pub fn new(mut names: Vec<WireName>) -> Self {
        names.sort_unstable();
        names.dedup();
        Self { names }
    }

    /// True if nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
