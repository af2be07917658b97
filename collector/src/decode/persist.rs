//! Templates and sampling rates on disk, so that a restart does not have to wait for them.

use std::fs;
use std::io;
use std::path::Path;

use schemas::flow::Version;
use schemas::net::Address;
use schemas::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::control::Control;
use super::sampling::Rates;
use super::state::Scope;
use super::template::{Announcement, Announcements, Definition, template_set};

/// The format of the file.
const FORMAT: u32 = 1;
/// A file larger than this was not written by Weir.
const FILE_OCTETS_MAX: u64 = 1 << 28;

/// Why templates are not read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PersistError {
    /// The system refuses.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// The file is cut or was written by something else.
    #[error("not a file of templates: {0}")]
    Corrupt(#[from] serde_json::Error),
    /// The file is of another format.
    #[error("format {0} is not known")]
    Format(u32),
    /// The file is larger than any that Weir writes.
    #[error("{0} octets are too many")]
    TooLarge(u64),
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    scopes: Vec<SavedScope>,
}

#[derive(Serialize, Deserialize)]
struct SavedScope {
    exporter: Address,
    version: u16,
    domain: u32,
    port: u16,
    rates: Rates,
    system_init_milliseconds: Option<u64>,
    templates: Vec<SavedTemplate>,
}

#[derive(Serialize, Deserialize)]
struct SavedTemplate {
    announced_milliseconds: u64,
    sender_port: u16,
    definition: Definition,
}

/// Reads the templates in `file` and returns their number.
pub(crate) fn load(control: &mut Control, file: &Path) -> Result<usize, PersistError> {
    let octets = fs::metadata(file)?.len();
    if octets > FILE_OCTETS_MAX {
        return Err(PersistError::TooLarge(octets));
    }
    let saved: File = serde_json::from_slice(&fs::read(file)?)?;
    if saved.format != FORMAT {
        return Err(PersistError::Format(saved.format));
    }
    let mut templates = 0;
    for saved in saved.scopes {
        let version = if saved.version == 9 { Version::Netflow9 } else { Version::Ipfix };
        let scope = Scope { exporter: saved.exporter, version, domain: saved.domain, port: saved.port };
        for template in saved.templates.into_iter().filter(|template| is_sound(version, &template.definition)) {
            control.restore(&scope, template.definition, Timestamp(template.announced_milliseconds), template.sender_port);
            templates += 1;
        }
        control.restore_rates(&scope, saved.rates, saved.system_init_milliseconds);
    }
    Ok(templates)
}

/// Whether a definition is one that an exporter could have announced: what reads as itself.
fn is_sound(version: Version, definition: &Definition) -> bool {
    if definition.scope_fields.is_some_and(|scopes| usize::from(scopes) > definition.fields.len()) || definition.fields.len() > 8_192 {
        return false;
    }
    let set = definition.to_set();
    let [high, low, _, _, body @ ..] = set.as_slice() else {
        return false;
    };
    template_set(version, u16::from_be_bytes([*high, *low])).is_some_and(|(style, options)| {
        let read = Announcements::new(body, style, options, usize::MAX).next();
        matches!(read, Some(Ok(Announcement::Define(read))) if &read == definition)
    })
}

/// Writes the templates to `file`: to a neighbour first, which then takes its name.
pub(crate) fn save(control: &Control, file: &Path) -> Result<(), PersistError> {
    let scopes = control
        .scopes()
        .map(|(scope, state)| SavedScope {
            exporter: scope.exporter,
            version: if scope.version == Version::Netflow9 { 9 } else { 10 },
            domain: scope.domain,
            port: scope.port,
            rates: state.rates.clone(),
            system_init_milliseconds: state.system_init_milliseconds,
            templates: state
                .known()
                .map(|(definition, at, sender_port)| SavedTemplate {
                    announced_milliseconds: at.0,
                    sender_port,
                    definition: definition.clone(),
                })
                .collect(),
        })
        .collect();
    let neighbour = file.with_extension("new");
    fs::write(&neighbour, serde_json::to_vec(&File { format: FORMAT, scopes })?)?;
    fs::rename(&neighbour, file)?;
    Ok(())
}
