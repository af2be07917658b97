//! Reads a configuration and finds everything that is wrong with it, each with its line and key.
//!
//! Serde stops at the first fault. So the entry at fault is cut out of the parsed document and the rest is read again, until it reads.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;

/// Faults that are listed at most.
const PROBLEMS_MAX: usize = 100;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 = the file as a whole.
    pub line: usize,
    /// The key with its tables: `api.listen`; empty where no key is at fault.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

/// All that is wrong with a file.
#[derive(Clone, Debug)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// By line.
    pub problems: Vec<Problem>,
}

impl std::error::Error for Problems {}

/// `file:line: key: message`, a line each.
impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{}:", self.file.display())?;
            if problem.line > 0 {
                write!(formatter, "{}:", problem.line)?;
            }
            if !problem.key.is_empty() {
                write!(formatter, " {}:", problem.key)?;
            }
            write!(formatter, " {}", problem.message)?;
        }
        Ok(())
    }
}

/// The configuration that `text` is.
///
/// # Errors
///
/// Every [`Problem`], by line.
pub fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = syntax
        .iter()
        .take(PROBLEMS_MAX)
        .map(|error| Problem { line: line_of(text, error.span()), key: String::new(), message: one_line(error.message()) })
        .collect();
    // Behind a syntax error the document is a guess, and what is said about it would mislead.
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut rest = document.clone();
    let config = loop {
        match Config::deserialize(toml::de::Deserializer::from(rest.clone())) {
            Ok(config) => break Some(config),
            Err(error) => {
                let steps = error.span().and_then(|span| locate(rest.get_ref(), &span));
                let Some(steps) = steps else {
                    problems.push(Problem { line: line_of(text, error.span()), key: String::new(), message: one_line(error.message()) });
                    break None;
                };
                if !cut_elements(&mut rest, &steps, &error, text, &mut problems) {
                    // By the document as it is written: what has been cut before moves the places in a list.
                    let written = error.span().and_then(|span| locate(document.get_ref(), &span));
                    let (key, message) = (key_of(written.as_ref().unwrap_or(&steps)), one_line(error.message()));
                    // A field that is missing because it was at fault and is cut is no second fault.
                    let was_cut = |problem: &Problem| problem.key.strip_prefix(&key).is_some_and(|name| message == missing_field(name));
                    if !problems.iter().any(was_cut) {
                        problems.push(Problem { line: line_of(text, error.span()), key, message });
                    }
                    remove(rest.get_mut(), &steps);
                }
                if problems.len() >= PROBLEMS_MAX {
                    break None;
                }
            }
        }
    };
    for (key, message) in config.iter().flat_map(Config::contradictions) {
        problems.push(Problem { line: line_of(text, find(document.get_ref(), &key)), key, message });
    }
    problems.sort_by_key(|problem| problem.line);
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

/// Reads the files that a configuration names, which are no part of it, and looks whether its data have a place.
///
/// # Errors
///
/// Every [`Problem`] with them, at the keys that name them.
pub fn read_named_files(file: &Path, config: &Config) -> Result<(), Problems> {
    let data_dir = place(&config.data_dir).map_err(|error| ("data_dir".to_owned(), error)).err();
    let found = data_dir.into_iter().chain(collector::enrich::load::check(&config.collector.enrich));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let (document, _) = DeTable::parse_recoverable(&text);
    let at = |(key, message): (String, String)| Problem { line: line_of(&text, find(document.get_ref(), &key)), key, message };
    let mut problems: Vec<Problem> = found.take(PROBLEMS_MAX).map(at).collect();
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() { Ok(()) } else { Err(Problems { file: file.to_owned(), problems }) }
}

/// Whether a folder can be made and written to: that is tried in it, or where it would be.
fn place(folder: &Path) -> Result<(), String> {
    let folder = std::path::absolute(folder).map_err(|error| error.to_string())?;
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(&folder);
    let trial = existing.join(format!(".weir-check-{}", std::process::id()));
    std::fs::create_dir(&trial)
        .and_then(|()| std::fs::remove_dir(&trial))
        .map_err(|error| format!("{} cannot be written to: {error}", existing.display()))
}

/// A step into a document.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// The path to the innermost entry that `span` points at.
fn locate(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    let mut found = None;
    for (key, value) in table {
        let step = Step::Key(key.get_ref().to_string());
        if let Some(inner) = locate_in(value.get_ref(), span) {
            return Some([vec![step], inner].concat());
        }
        if holds(&key.span(), span) || holds(&value.span(), span) {
            found = Some(vec![step]);
        }
    }
    found
}

fn locate_in(value: &DeValue<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    match value {
        DeValue::Table(inner) => locate(inner, span),
        DeValue::Array(values) => values.iter().enumerate().find_map(|(index, value)| {
            let inner = locate_in(value.get_ref(), span).or_else(|| holds(&value.span(), span).then(Vec::new));
            inner.map(|inner| [vec![Step::Index(index)], inner].concat())
        }),
        _ => None,
    }
}

/// `networks[1]`, `api.listen`.
fn key_of(steps: &[Step]) -> String {
    let mut key = String::new();
    for step in steps {
        match step {
            Step::Key(name) if key.is_empty() => key.push_str(name),
            Step::Key(name) => key.push_str(&format!(".{name}")),
            Step::Index(index) => key.push_str(&format!("[{index}]")),
        }
    }
    key
}

fn value_at<'a, 'i>(table: &'a mut DeTable<'i>, steps: &[Step]) -> Option<&'a mut DeValue<'i>> {
    let (first, rest) = steps.split_first()?;
    let Step::Key(name) = first else {
        return None;
    };
    let mut value = table.get_mut(name.as_str())?.get_mut();
    for step in rest {
        value = match (step, value) {
            (Step::Key(name), DeValue::Table(inner)) => inner.get_mut(name.as_str())?.get_mut(),
            (Step::Index(index), DeValue::Array(values)) => values.get_mut(*index)?.get_mut(),
            _ => return None,
        };
    }
    Some(value)
}

/// Takes the entry at the end of the path out of the document.
fn remove(table: &mut DeTable<'_>, steps: &[Step]) {
    let Some((last, parents)) = steps.split_last() else {
        return;
    };
    let parent = if parents.is_empty() { None } else { value_at(table, parents) };
    match (last, parent) {
        (Step::Key(name), None) => drop(table.remove(name.as_str())),
        (Step::Key(name), Some(DeValue::Table(inner))) => drop(inner.remove(name.as_str())),
        (Step::Index(cut), Some(DeValue::Array(values))) => {
            let kept = values.iter().enumerate().filter(|(index, _)| index != cut).map(|(_, value)| value.clone());
            *values = kept.collect::<Vec<_>>().into_iter().collect();
        }
        _ => {}
    }
}

/// Where `error` is about a list as a whole, tries its values one by one and cuts those that are at fault by themselves.
///
/// Whether there was any: an error of a value in a list points at the list. A list that fails without a value as well has the wrong length.
fn cut_elements(rest: &mut Spanned<DeTable<'_>>, steps: &[Step], error: &toml::de::Error, text: &str, problems: &mut Vec<Problem>) -> bool {
    let Some(DeValue::Array(values)) = value_at(rest.get_mut(), steps) else {
        return false;
    };
    let all: Vec<Spanned<DeValue<'_>>> = values.iter().cloned().collect();
    *values = std::iter::empty().collect();
    if Config::deserialize(toml::de::Deserializer::from(rest.clone())).is_err_and(|empty| empty.span() == error.span()) {
        if let Some(DeValue::Array(values)) = value_at(rest.get_mut(), steps) {
            *values = all.into_iter().collect();
        }
        return false;
    }
    let before = problems.len();
    let mut kept = Vec::new();
    for (index, value) in all.into_iter().enumerate() {
        if let Some(DeValue::Array(values)) = value_at(rest.get_mut(), steps) {
            *values = std::iter::once(value.clone()).collect();
        }
        match Config::deserialize(toml::de::Deserializer::from(rest.clone())) {
            Err(own) if own.span() == error.span() => {
                let key = format!("{}[{index}]", key_of(steps));
                problems.push(Problem { line: line_of(text, Some(value.span())), key, message: one_line(own.message()) });
            }
            _ => kept.push(value),
        }
    }
    if let Some(DeValue::Array(values)) = value_at(rest.get_mut(), steps) {
        *values = kept.into_iter().collect();
    }
    problems.len() > before
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && outer.start < outer.end
}

/// Where the value of a dotted key stands, `api.listen` or `collector.enrich.mmdb[0]`; of one that is not written, the innermost table
/// that is.
fn find(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    let (name, index) = step.strip_suffix(']').and_then(|step| step.split_once('[')).unwrap_or((step, ""));
    let mut value = table.get(name)?;
    if let (DeValue::Array(values), Ok(index)) = (value.get_ref(), index.parse::<usize>()) {
        value = values.get(index).unwrap_or(value);
    }
    match (rest, value.get_ref()) {
        (Some(rest), DeValue::Table(inner)) => find(inner, rest).or_else(|| Some(value.span())),
        _ => Some(value.span()),
    }
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    span.map_or(0, |span| text.bytes().take(span.start).filter(|octet| *octet == b'\n').count() + 1)
}

/// What serde says of a field that is not there, given `.name`.
fn missing_field(name: &str) -> String {
    format!("missing field `{}`", name.trim_start_matches('.'))
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let problems = read(text).unwrap_err();
        Problems { file: "weir.toml".into(), problems }.to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_fault_is_found_with_its_line_and_key() {
        let text = "data_dir = 5\nnetworks = [\n  \"203.0.113.0/24\",\n  \"203.0.113.7/24\",\n  \"x\",\n]\n\n[api]\nlisten = \"here\"\nlissten = 1\n\n[apii]\na = 1\n";
        let found = problems(text);
        assert_eq!(found.len(), 6, "{found:#?}");
        assert!(found[0].starts_with("weir.toml:1: data_dir: "), "{found:#?}");
        assert!(found[1].starts_with("weir.toml:4: networks[1]: 203.0.113.7/24 has bits set"), "{found:#?}");
        assert!(found[2].starts_with("weir.toml:5: networks[2]: not an address or prefix: x"), "{found:#?}");
        assert!(found[3].starts_with("weir.toml:9: api.listen: "), "{found:#?}");
        assert!(found[4].starts_with("weir.toml:10: api.lissten: unknown field"), "{found:#?}");
        assert!(found[5].starts_with("weir.toml:12: apii: unknown field"), "{found:#?}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_a_fault_of_its_key() {
        let config = |folder: &Path| read(&format!("data_dir = \"{}\"\n", folder.display())).unwrap();
        let file = std::env::temp_dir().join(format!("weir-check-{}", uuid::Uuid::new_v4()));
        let check = |folder: &Path| read_named_files(&file, &config(folder)).map_err(|problems| problems.problems[0].clone());
        // Where nothing is yet, it is made; in a file or where the kernel lets nobody write, it is not.
        assert_eq!(check(&file.join("data")), Ok(()));
        assert!(!file.exists());
        std::fs::write(&file, "\ndata_dir = \"/proc/x\"\n").unwrap();
        for folder in [file.join("data"), "/proc/x".into()] {
            let problem = check(&folder).unwrap_err();
            assert_eq!((problem.line, problem.key.as_str()), (2, "data_dir"), "{}", problem.message);
        }
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_syntax_error_has_its_line() {
        let found = problems("networks = []\n\n[api\nlisten = 1\n");
        assert!(found[0].starts_with("weir.toml:3: "), "{found:#?}");
    }

    #[test]
    fn a_list_of_the_wrong_length_is_one_fault() {
        assert_eq!(
            problems("[analytics.threshold]\nwindow_multiples = [1.0, 2.0]\n"),
            ["weir.toml:2: analytics.threshold.window_multiples: invalid length 2, expected an array of length 4"]
        );
    }

    #[test]
    fn each_table_of_a_list_has_its_own_faults_and_each_fault_is_told_once() {
        let adapter = "[[analytics.mitigation.adapters]]\n";
        assert_eq!(
            problems(&format!("{adapter}type = \"gobgp\"\nid = \"a\"\nfoo = 1\n{adapter}type = \"gobgpx\"\nid = \"b\"\n"))
                .iter()
                .map(|problem| problem.split(", expected").next().unwrap_or_default())
                .collect::<Vec<_>>(),
            [
                "weir.toml:1: analytics.mitigation.adapters[0]: unknown field `foo`",
                "weir.toml:6: analytics.mitigation.adapters[1].type: unknown variant `gobgpx`",
            ]
        );
    }

    #[test]
    fn contradictions_point_at_the_key_or_the_table_that_is_written() {
        let found = problems(
            "[api]\nlisten = \"127.0.0.1:1\"\nmetrics_listen = \"127.0.0.1:1\"\n[api.notify.webhook]\nurl = \"https://example.net\"\n",
        );
        assert_eq!(
            found,
            [
                "weir.toml:3: api.metrics_listen: 127.0.0.1:1 is api.listen already",
                "weir.toml:4: api.notify.webhook.secret: is needed to sign what is sent to url",
            ]
        );
    }

    #[test]
    fn a_number_outside_its_range_is_told_with_the_range() {
        let found =
            problems("[collector.receive]\nshards = 20_000\n[collector.count]\nhosts_max = 0\n[collector.store.spool]\nblocks_max = 0\n");
        assert_eq!(
            found,
            [
                "weir.toml:2: collector.receive.shards: 20000 is not within 0 to 256",
                "weir.toml:4: collector.count.hosts_max: 0 is not within 1 to 134217728",
                "weir.toml:6: collector.store.spool.blocks_max: 0 is not within 1 to 1000000",
            ]
        );
    }

    #[test]
    fn the_printed_default_is_the_default_and_names_every_key() {
        let printed: toml::Table = super::super::DEFAULT.parse().unwrap();
        assert_eq!(read(super::super::DEFAULT).unwrap(), Config::default());
        assert_eq!(missing(&printed, &printed, &mut Vec::new()), Vec::<String>::new());
    }

    /// The keys that a table may have, as serde names them when it meets one that it does not know, and that `DEFAULT` does not mention.
    fn missing(root: &toml::Table, table: &toml::Table, path: &mut Vec<String>) -> Vec<String> {
        let mut probe = root.clone();
        let mut inner = &mut probe;
        for name in path.iter() {
            inner = inner[name].as_table_mut().unwrap();
        }
        inner.insert("zzz".to_owned(), toml::Value::Integer(1));
        let message = read(&probe.to_string()).unwrap_err().remove(0).message;
        let known = message.split('`').skip(3).step_by(2);
        let named = |key: &str| table.contains_key(key) || super::super::DEFAULT.contains(&format!("\n# {key} = "));
        let mut missing: Vec<String> = known.filter(|key| !named(key)).map(|key| format!("{}.{key}", path.join("."))).collect();
        for (name, value) in table {
            if let toml::Value::Table(inner) = value {
                path.push(name.clone());
                missing.extend(self::missing(root, inner, path));
                path.pop();
            }
        }
        missing
    }
}
