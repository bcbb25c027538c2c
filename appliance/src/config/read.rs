//! A reader over a TOML document that finds all mistakes in one pass and knows where each is.
//!
//! Serde's derive stops at the first mistake and knows no key path; here every key is asked for by name,
//! a key that nobody asked for is an error (as `deny_unknown_fields` would have it), and a bad value is
//! noted and reading goes on.

use super::error::ConfigError;
use std::cell::RefCell;
use std::ops::{Deref, Range};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and where it stood: its key path, and its octets in the text.
#[derive(Debug, Clone)]
pub(super) struct Item<T> {
    pub(super) at: At,
    pub(super) value: T,
}

impl<T> Deref for Item<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A place in the file.
#[derive(Debug, Clone)]
pub(super) struct At {
    /// The key path.
    pub(super) path: String,
    /// Octets of the value in the text; nothing for a key that is missing.
    span: Option<Range<usize>>,
    /// The value itself is worth showing (a whole section is not).
    show: bool,
}

/// A file being read, and the mistakes found so far.
#[derive(Debug)]
pub(super) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    errors: RefCell<Vec<ConfigError>>,
}

/// Characters of a value that a message shows.
const SHOWN: usize = 60;

impl<'a> Source<'a> {
    pub(super) const fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, errors: RefCell::new(Vec::new()) }
    }

    fn line(&self, octet: usize) -> usize {
        1 + self.text.as_bytes().iter().take(octet).filter(|b| **b == b'\n').count()
    }

    /// Notes a mistake at a place.
    pub(super) fn error(&self, at: &At, problem: impl Into<String>, allowed: impl Into<String>) {
        let value = at.span.clone().filter(|_| at.show).and_then(|span| self.text.get(span)).map(shorten);
        let allowed = allowed.into();
        self.errors.borrow_mut().push(ConfigError {
            file: self.file.to_owned(),
            line: at.span.as_ref().map(|span| self.line(span.start)),
            key: at.path.clone(),
            value,
            problem: problem.into(),
            allowed: (!allowed.is_empty()).then_some(allowed),
        });
    }

    /// True if a mistake was noted at a key path that begins so. What follows from it need not be told.
    pub(super) fn bad(&self, path: &str) -> bool {
        self.errors.borrow().iter().any(|e| e.key.starts_with(path))
    }

    /// Notes that the text is not TOML.
    pub(super) fn syntax(&self, error: &toml::de::Error) {
        self.errors.borrow_mut().push(ConfigError {
            file: self.file.to_owned(),
            line: error.span().map(|span| self.line(span.start)),
            key: String::new(),
            value: None,
            problem: format!("not TOML: {}", error.message().trim()),
            allowed: None,
        });
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors.into_inner()
    }
}

/// A value on one line, and not endless.
fn shorten(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push_str("...");
    }
    out
}

/// What a value may be read as.
pub(super) trait Read: Sized {
    /// What is allowed, for messages.
    const ALLOWED: &'static str;

    /// Reads a value, or says what is wrong with it.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
}

/// What a TOML type is called in messages.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The message for a value of another type than the one expected.
pub(super) fn wrong_type(expected: &str, found: &DeValue<'_>) -> String {
    format!("wrong type: expected {expected}, found {}", kind(found))
}

/// The string that a value must be.
pub(super) fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| wrong_type("a string", value))
}

/// The integer within `range` that a value must be.
pub(super) fn integer(value: &DeValue<'_>, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let Some(i) = value.as_integer() else { return Err(wrong_type("an integer", value)) };
    i128::from_str_radix(i.as_str(), i.radix())
        .ok()
        .and_then(|n| u64::try_from(n).ok())
        .filter(|n| range.contains(n))
        .ok_or_else(|| format!("out of range {} to {}", range.start(), range.end()))
}

impl Read for bool {
    const ALLOWED: &'static str = "true or false";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| wrong_type("a boolean", value))
    }
}

impl Read for String {
    const ALLOWED: &'static str = "a string";

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        string(value).map(ToOwned::to_owned)
    }
}

/// A table of the document that is being read.
#[derive(Debug)]
pub(super) struct Section<'s, 't> {
    pub(super) at: At,
    source: &'s Source<'s>,
    table: Option<&'t DeTable<'t>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'s, 't> Section<'s, 't> {
    /// The whole document.
    pub(super) fn root(source: &'s Source<'s>, table: &'t DeTable<'t>) -> Self {
        let at = At { path: String::new(), span: None, show: false };
        Self { at, source, table: Some(table), asked: RefCell::default() }
    }

    /// True if the file has this section.
    pub(super) const fn present(&self) -> bool {
        self.table.is_some()
    }

    fn path(&self, key: &str) -> String {
        if self.at.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at.path) }
    }

    /// The place of a key that need not be there.
    pub(super) fn place(&self, key: &str) -> At {
        let span = self.table.and_then(|t| t.get(key)).map(Spanned::span);
        let show = span.is_some();
        At { path: self.path(key), span: span.or_else(|| self.at.span.clone()), show }
    }

    /// True if the key is there, well-formed or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    fn get(&self, key: &'static str) -> Option<(At, &'t DeValue<'t>)> {
        self.asked.borrow_mut().push(key);
        let value = self.table?.get(key)?;
        let at = At { path: self.path(key), span: Some(value.span()), show: true };
        Some((at, value.get_ref()))
    }

    fn value<T: Read>(&self, at: At, value: &DeValue<'_>) -> Option<Item<T>> {
        match T::read(value) {
            Ok(value) => Some(Item { at, value }),
            Err(problem) => {
                self.source.error(&at, problem, T::ALLOWED);
                None
            }
        }
    }

    /// A key that may be missing. Nothing also when it is wrong, which has then been noted.
    pub(super) fn optional<T: Read>(&self, key: &'static str) -> Option<Item<T>> {
        let (at, value) = self.get(key)?;
        self.value(at, value)
    }

    /// A key that must be there.
    pub(super) fn required<T: Read>(&self, key: &'static str) -> Option<Item<T>> {
        if !self.has(key) {
            self.asked.borrow_mut().push(key);
            self.source.error(&self.place(key), "missing", T::ALLOWED);
            return None;
        }
        self.optional(key)
    }

    /// A key with a default.
    pub(super) fn or<T: Read>(&self, key: &'static str, default: T) -> T {
        self.optional(key).map_or(default, |item| item.value)
    }

    /// An array of values; empty if missing. Bad elements have been noted and are left out.
    pub(super) fn list<T: Read>(&self, key: &'static str) -> Vec<Item<T>> {
        let Some((at, value)) = self.get(key) else { return Vec::new() };
        let Some(array) = value.as_array() else {
            self.source.error(
                &at,
                wrong_type("an array", value),
                format!("an array; each element: {}", T::ALLOWED),
            );
            return Vec::new();
        };
        array
            .iter()
            .enumerate()
            .filter_map(|(n, element)| {
                let at = At { path: format!("{}[{n}]", at.path), span: Some(element.span()), show: true };
                self.value(at, element.get_ref())
            })
            .collect()
    }

    /// An array of values of which there must be at least one.
    pub(super) fn some<T: Read>(&self, key: &'static str) -> Vec<Item<T>> {
        let list = self.list(key);
        if !self.has(key) {
            self.error(key, "missing", format!("one or more, each {}", T::ALLOWED));
        } else if self.is_empty_array(key) {
            self.error(key, "empty", "one or more");
        }
        list
    }

    /// A table; an absent one reads as empty.
    pub(super) fn section(&self, key: &'static str) -> Section<'s, 't> {
        let found = self.get(key);
        let at = At {
            path: self.path(key),
            span: found.as_ref().and_then(|(at, _)| at.span.clone()),
            show: false,
        };
        let table = found.and_then(|(at, value)| {
            if value.as_table().is_none() {
                self.source.error(&at, wrong_type("a table", value), format!("a section [{}]", at.path));
            }
            value.as_table()
        });
        Section { at, source: self.source, table, asked: RefCell::default() }
    }

    /// An array of tables (`[[key]]`); empty if missing.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'s, 't>> {
        let Some((at, value)) = self.get(key) else { return Vec::new() };
        let allowed = format!("sections [[{}]]", at.path);
        let Some(array) = value.as_array() else {
            self.source.error(&at, wrong_type("an array of tables", value), allowed);
            return Vec::new();
        };
        let mut out = Vec::new();
        for (n, element) in array.iter().enumerate() {
            let at = At { path: format!("{}[{n}]", at.path), span: Some(element.span()), show: false };
            match element.get_ref().as_table() {
                Some(table) => {
                    out.push(Section {
                        at,
                        source: self.source,
                        table: Some(table),
                        asked: RefCell::default(),
                    });
                }
                None => self.source.error(
                    &At { show: true, ..at },
                    wrong_type("a table", element.get_ref()),
                    allowed.clone(),
                ),
            }
        }
        out
    }

    /// True if the key is an array without elements.
    pub(super) fn is_empty_array(&self, key: &str) -> bool {
        self.table
            .and_then(|t| t.get(key))
            .and_then(|value| value.get_ref().as_array())
            .is_some_and(|array| array.is_empty())
    }

    /// Notes a mistake at a key of this section, there or not.
    pub(super) fn error(&self, key: &str, problem: impl Into<String>, allowed: impl Into<String>) {
        self.source.error(&self.place(key), problem, allowed);
    }

    /// Ends the section: keys that were never asked for are unknown.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        let asked = self.asked.borrow();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if asked.contains(&name) {
                continue;
            }
            let section = matches!(value.get_ref(), DeValue::Table(_));
            let at = At { path: self.path(name), span: Some(value.span()), show: !section };
            let near = asked.iter().map(|known| (distance(known, name), known)).min();
            let problem = match near {
                Some((d, known)) if d <= 2 => {
                    format!("unknown key; did you mean `{known}`?")
                }
                _ => "unknown key".to_owned(),
            };
            let mut known = asked.clone();
            known.sort_unstable();
            known.dedup();
            self.source.error(&at, problem, known.join(", "));
        }
    }
}

/// Edits between two names: insertions, deletions and replacements (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replace = before + usize::from(ca != *cb);
            before = row[j + 1];
            row[j + 1] = replace.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, d) in [("pool", "pool", 0), ("pool", "pols", 2), ("pool", "pol", 1), ("", "ab", 2)] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
        assert_eq!(distance("a", "abcd"), usize::MAX);
    }

    #[test]
    fn values_are_shown_on_one_line_and_not_endless() {
        assert_eq!(shorten("[1,\n2]"), "[1, 2]");
        let long = "x".repeat(200);
        assert_eq!(shorten(&long).chars().count(), SHOWN + 3);
    }
}
