//! Templates: what their records say, read octet by octet before anything else looks at them.

use schemas::flow::Version;
use serde::{Deserialize, Serialize};

use super::cursor::Cursor;

/// A field length that says "the length is in the data" (RFC 7011 §7); IPFIX only.
pub(crate) const VARIABLE: u16 = 65_535;
/// The smallest id of a data set (RFC 7011 §3.4.3).
pub(crate) const TEMPLATE_ID_MIN: u16 = 256;

/// Which of the two template formats a definition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Style {
    /// RFC 3954: 16-bit field types, scope types of their own, no variable length. Set ids 0 and 1.
    Netflow9,
    /// RFC 7011: information elements with an enterprise bit. Set ids 2 and 3.
    Ipfix,
}

/// One field of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Field {
    /// Private enterprise number, 0 for IANA's elements and all of version 9.
    pub(crate) enterprise: u32,
    /// Element id; in the scope of a version 9 options template a scope type.
    pub(crate) element: u16,
    /// Octets, never 0; [`VARIABLE`] in IPFIX.
    pub(crate) length: u16,
}

/// The layout of the records of one set id.
///
/// Fields of length 0 are left out: they take no octets and say nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    /// Template id, 256 and more.
    pub(crate) id: u16,
    /// The format that it was announced in.
    pub(crate) style: Style,
    /// Whether the records are options, and how many of the fields are their scope.
    pub(crate) scope_fields: Option<u16>,
    /// The fields in order.
    pub(crate) fields: Vec<Field>,
}

/// What one record of a template set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Announcement {
    /// The layout of a set id.
    Define(Definition),
    /// A definition that no record could follow: no fields, no octets, more octets than a set has, or over the bound on fields.
    Refused,
    /// The set id has no layout any more (RFC 7011 §8.1).
    Withdraw(u16),
    /// No set id of this kind (options or not) has a layout any more.
    WithdrawAll,
}

impl Definition {
    /// The octets of the shortest record.
    pub(crate) fn record_octets_min(&self) -> usize {
        self.fields
            .iter()
            .map(|field| if field.length == VARIABLE && self.style == Style::Ipfix { 1 } else { usize::from(field.length) })
            .sum()
    }

    /// The template set with this definition alone, header and all: how it is handed to netflow_parser.
    pub(crate) fn to_set(&self) -> Vec<u8> {
        let mut set = Vec::with_capacity(16 + self.fields.len() * 8);
        let count = |fields: usize| u16::try_from(fields).unwrap_or(u16::MAX);
        let id: u16 = match (self.style, self.scope_fields) {
            (Style::Netflow9, None) => 0,
            (Style::Netflow9, Some(_)) => 1,
            (Style::Ipfix, None) => 2,
            (Style::Ipfix, Some(_)) => 3,
        };
        set.extend(id.to_be_bytes());
        set.extend([0, 0]);
        set.extend(self.id.to_be_bytes());
        match (self.style, self.scope_fields) {
            (_, None) => set.extend(count(self.fields.len()).to_be_bytes()),
            (Style::Netflow9, Some(scopes)) => {
                set.extend(scopes.saturating_mul(4).to_be_bytes());
                set.extend(count((self.fields.len() - usize::from(scopes)) * 4).to_be_bytes());
            }
            (Style::Ipfix, Some(scopes)) => {
                set.extend(count(self.fields.len()).to_be_bytes());
                set.extend(scopes.to_be_bytes());
            }
        }
        for field in &self.fields {
            let enterprise = self.style == Style::Ipfix && field.enterprise != 0;
            set.extend((if enterprise { field.element | 0x8000 } else { field.element }).to_be_bytes());
            set.extend(field.length.to_be_bytes());
            if enterprise {
                set.extend(field.enterprise.to_be_bytes());
            }
        }
        let length = count(set.len()).to_be_bytes();
        set.iter_mut().skip(2).zip(length).for_each(|(octet, length)| *octet = length);
        set
    }
}

/// The format and kind of a template set of `version`, by its set id; `None` for data and reserved ids.
///
/// Some exporters of IPFIX announce templates in version 9's sets.
pub(crate) fn template_set(version: Version, set_id: u16) -> Option<(Style, bool)> {
    match (version, set_id) {
        (Version::Netflow9 | Version::Ipfix, 0) => Some((Style::Netflow9, false)),
        (Version::Netflow9 | Version::Ipfix, 1) => Some((Style::Netflow9, true)),
        (Version::Ipfix, 2) => Some((Style::Ipfix, false)),
        (Version::Ipfix, 3) => Some((Style::Ipfix, true)),
        _ => None,
    }
}

/// The records of a template set, in order; ends at padding, or with `Err` at a record that the set cuts.
pub(crate) struct Announcements<'a> {
    cursor: Cursor<'a>,
    style: Style,
    options: bool,
    fields_max: usize,
    ended: bool,
}

/// A template record that ends behind its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutRecord;

impl<'a> Announcements<'a> {
    /// Reads `body`, the octets of a template set behind its header; definitions of more than `fields_max` fields are refused.
    pub(crate) fn new(body: &'a [u8], style: Style, options: bool, fields_max: usize) -> Self {
        Self { cursor: Cursor::new(body), style, options, fields_max, ended: false }
    }

    fn record(&mut self, id: u16) -> Option<Announcement> {
        let count = self.cursor.u16()?;
        if self.style == Style::Ipfix && count == 0 {
            let all = id == if self.options { 3 } else { 2 };
            return Some(if all { Announcement::WithdrawAll } else { Announcement::Withdraw(id) });
        }
        let (scopes, count) = match (self.options, self.style) {
            (false, _) => (0, count),
            (true, Style::Ipfix) => (self.cursor.u16()?, count),
            // Version 9 gives the lengths of the two parts in octets (RFC 3954 §6.1).
            (true, Style::Netflow9) => {
                let options_octets = self.cursor.u16()?;
                (count / 4, (count / 4).saturating_add(options_octets / 4))
            }
        };
        // Checked before anything is allocated.
        if self.cursor.rest().len() < usize::from(count) * 4 {
            return None;
        }
        let mut fields = Vec::with_capacity(usize::from(count).min(self.fields_max));
        let (mut scopes_left, mut refused) = (0u16, id < TEMPLATE_ID_MIN);
        for index in 0..count {
            let field = self.field()?;
            refused |= field.length == VARIABLE && self.style == Style::Netflow9;
            if field.length != 0 && fields.len() < self.fields_max {
                scopes_left += u16::from(index < scopes);
                fields.push(field);
            } else {
                refused |= field.length != 0;
            }
        }
        refused |= self.options && scopes > count;
        let definition = Definition { id, style: self.style, scope_fields: self.options.then_some(scopes_left), fields };
        // A set has at most 65,531 octets behind its header.
        let octets = definition.record_octets_min();
        Some(if refused || octets == 0 || octets > 65_531 { Announcement::Refused } else { Announcement::Define(definition) })
    }

    fn field(&mut self) -> Option<Field> {
        let (element, length) = (self.cursor.u16()?, self.cursor.u16()?);
        if self.style == Style::Ipfix && element & 0x8000 != 0 {
            return Some(Field { enterprise: self.cursor.u32()?, element: element & 0x7fff, length });
        }
        Some(Field { enterprise: 0, element, length })
    }
}

impl Iterator for Announcements<'_> {
    type Item = Result<Announcement, CutRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        // Padding is zeros and shorter than a record (RFC 7011 §3.3.1).
        if self.ended || self.cursor.rest().len() < 4 {
            return None;
        }
        let id = self.cursor.u16().filter(|&id| id != 0)?;
        let record = self.record(id);
        self.ended = record.is_none();
        Some(record.ok_or(CutRecord))
    }
}

#[cfg(test)]
#[path = "template/tests.rs"]
mod tests;
