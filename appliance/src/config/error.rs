//! What is wrong with a configuration: where, which value, why, and what is allowed instead.

use serde::Serialize;
use std::collections::HashSet;
use std::fmt;

/// One mistake in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ConfigError {
    /// The file, as it was named to us.
    pub file: String,
    /// Line in the file, from 1, if the mistake has one.
    pub line: Option<usize>,
    /// Key path, as in `nat64.pool[1]`. Empty where the file is not TOML at all.
    pub key: String,
    /// The value as it stands in the file, shortened if long. Nothing for a key that is missing.
    pub value: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What is allowed instead.
    pub allowed: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, ": {}", self.problem)?;
        if let Some(allowed) = &self.allowed {
            write!(f, " (allowed: {allowed})")?;
        }
        Ok(())
    }
}

/// All mistakes that were found in one reading, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The mistakes, sorted by line; nothing if there are none.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Option<Self> {
        errors.sort_by_key(|e| e.line);
        // What several checks find alike is told once.
        let mut told = HashSet::new();
        errors.retain(|e| told.insert(e.clone()));
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// A single mistake.
    pub(super) fn one(error: ConfigError) -> Self {
        Self(vec![error])
    }

    /// The mistakes.
    #[must_use]
    pub fn list(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, e) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            e.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
