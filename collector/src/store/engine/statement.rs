//! What must be known of a statement before the engine sees it: what kind it is, and the format of its rows.

/// What a statement does, as far as the way to run it depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `SELECT`: its result can be read block by block.
    Select,
    /// Another statement that changes nothing.
    Read,
    /// `INSERT`.
    Insert,
    /// Everything else.
    Change,
}

/// A statement with its `FORMAT` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// What it does.
    pub kind: Kind,
    /// The format that it names.
    pub format: Option<&'a str>,
    /// Where that clause stands, in octets.
    clause: std::ops::Range<usize>,
    text: &'a str,
}

impl<'a> Statement<'a> {
    /// Reads a statement.
    #[must_use]
    pub fn read(text: &'a str) -> Self {
        let words = Words { text, at: 0 };
        let mut kind = None;
        let (mut format, mut clause) = (None, 0..0);
        // The start of a word FORMAT, and the name behind it, until the next word tells whether it was that clause.
        let mut begun: Option<usize> = None;
        let mut named: Option<(usize, &str)> = None;
        for word in words {
            if kind.is_none() && word.text != "(" {
                kind = Some(kind_of(word.text));
            }
            if let Some((start, name)) = named.take()
                && (word.text == ";" || word.text.eq_ignore_ascii_case("settings"))
            {
                (format, clause) = (Some(name), start..offset(text, name) + name.len());
            }
            if let Some(start) = begun.take()
                && word.is_name()
            {
                named = Some((start, word.text));
            }
            if word.text.eq_ignore_ascii_case("format") {
                begun = Some(word.start);
            }
        }
        if let Some((start, name)) = named {
            (format, clause) = (Some(name), start..offset(text, name) + name.len());
        }
        Self { kind: kind.unwrap_or(Kind::Change), format, clause, text }
    }

    /// The statement without its `FORMAT`.
    #[must_use]
    pub fn without_format(&self) -> String {
        let (before, after) = (self.text.get(..self.clause.start), self.text.get(self.clause.end..));
        let rest = after.unwrap_or_default().trim_end().trim_end_matches(';');
        format!("{}{rest}", before.unwrap_or_default())
    }
}

fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

fn kind_of(word: &str) -> Kind {
    match word.to_ascii_uppercase().as_str() {
        "SELECT" | "WITH" => Kind::Select,
        "SHOW" | "DESCRIBE" | "DESC" | "EXPLAIN" | "EXISTS" | "CHECK" => Kind::Read,
        "INSERT" => Kind::Insert,
        _ => Kind::Change,
    }
}

/// A word, a number, or a single sign.
struct Word<'a> {
    text: &'a str,
    start: usize,
}

impl Word<'_> {
    fn is_name(&self) -> bool {
        self.text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
    }
}

/// The words of a statement; quoted texts count as one sign, comments do not count.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        loop {
            let rest = self.text.get(self.at..)?;
            let first = rest.chars().next()?;
            let start = self.at;
            if first.is_whitespace() {
                self.at += first.len_utf8();
            } else if rest.starts_with("--") || first == '#' {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if let Some(comment) = rest.strip_prefix("/*") {
                self.at += comment.find("*/").map_or(rest.len(), |end| end + 4);
            } else {
                let length = match first {
                    '\'' | '"' | '`' => quoted(rest, first),
                    _ if is_word(first) => rest.find(|next| !is_word(next)).unwrap_or(rest.len()),
                    _ => first.len_utf8(),
                };
                self.at += length;
                return Some(Word { text: rest.get(..length)?, start });
            }
        }
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The length of the quoted text that `rest` begins with; a backslash takes the next letter's meaning away.
fn quoted(rest: &str, quote: char) -> usize {
    let mut letters = rest.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if letter == quote {
            return at + quote.len_utf8();
        }
    }
    rest.len()
}

/// How the documents of several blocks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// They follow one another.
    Plain,
    /// Each begins with so many lines of names and types, which only the first may keep.
    Lines(usize),
    /// Each begins with a count, as many names, and as many types if `true`, in `RowBinary`.
    Binary(bool),
    /// They do not: the result must be one document from the start.
    Whole,
}

impl Framing {
    /// The framing of a format by its name.
    #[must_use]
    pub fn of(format: &str) -> Self {
        match format {
            "Native" | "RowBinary" | "TabSeparated" | "TSV" | "TabSeparatedRaw" | "TSVRaw" | "CSV" | "JSONEachRow" | "JSONLines"
            | "NDJSON" | "JSONCompactEachRow" | "Null" => Self::Plain,
            "TabSeparatedWithNames" | "TSVWithNames" | "CSVWithNames" | "JSONCompactEachRowWithNames" => Self::Lines(1),
            "TabSeparatedWithNamesAndTypes" | "TSVWithNamesAndTypes" | "CSVWithNamesAndTypes" | "JSONCompactEachRowWithNamesAndTypes" => {
                Self::Lines(2)
            }
            "RowBinaryWithNames" => Self::Binary(false),
            "RowBinaryWithNamesAndTypes" => Self::Binary(true),
            _ => Self::Whole,
        }
    }

    /// The length of what the first document begins with and no other may.
    #[must_use]
    pub fn head(self, document: &[u8]) -> usize {
        match self {
            Self::Plain | Self::Whole => 0,
            Self::Lines(count) => lines(document, count),
            Self::Binary(has_types) => names(document, has_types).unwrap_or(0),
        }
    }
}

/// The length of so many lines; a line feed between quotation marks belongs to a name.
fn lines(document: &[u8], count: usize) -> usize {
    let (mut left, mut is_quoted) = (count, false);
    for (at, octet) in document.iter().enumerate() {
        match octet {
            b'"' => is_quoted = !is_quoted,
            b'\n' if !is_quoted => left = left.saturating_sub(1),
            _ => continue,
        }
        if left == 0 {
            return at + 1;
        }
    }
    document.len()
}

/// The length of the count, the names and the types.
fn names(document: &[u8], has_types: bool) -> Option<usize> {
    let mut at = 0;
    let count = variable(document, &mut at)?;
    for _ in 0..count * if has_types { 2 } else { 1 } {
        let length = variable(document, &mut at)?;
        at = at.checked_add(length).filter(|end| *end <= document.len())?;
    }
    Some(at)
}

/// A number of variable length, seven bits an octet, the lowest first.
fn variable(document: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..32).step_by(7) {
        let octet = *document.get(*at)?;
        *at += 1;
        value |= usize::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_found_at_the_end_or_before_the_settings() {
        for (text, kind, format) in [
            ("SELECT 1", Kind::Select, None),
            (" ( select 1 format CSV )", Kind::Select, None),
            ("-- format CSV\nselect 'format CSV' /* FORMAT X */ Format JSON ;", Kind::Select, Some("JSON")),
            ("select format from t", Kind::Select, None),
            ("select format('{}', 1)", Kind::Select, None),
            ("select 1 format Parquet settings max_threads = 1", Kind::Select, Some("Parquet")),
            ("INSERT INTO `format x`(a) FORMAT RowBinary", Kind::Insert, Some("RowBinary")),
            ("describe table t", Kind::Read, None),
            ("create table t (a UInt8)", Kind::Change, None),
            ("", Kind::Change, None),
            ("select 'open", Kind::Select, None),
        ] {
            let statement = Statement::read(text);
            assert_eq!((statement.kind, statement.format), (kind, format), "{text}");
        }
    }

    #[test]
    fn an_insert_loses_its_format_and_keeps_its_settings() {
        assert_eq!(Statement::read("INSERT INTO t(a) FORMAT Native;").without_format(), "INSERT INTO t(a) ");
        assert_eq!(Statement::read("INSERT INTO t FORMAT CSV SETTINGS a = 1").without_format(), "INSERT INTO t  SETTINGS a = 1");
        assert_eq!(Statement::read("INSERT INTO t VALUES").without_format(), "INSERT INTO t VALUES");
    }

    #[test]
    fn the_head_of_a_document_ends_where_its_rows_begin() {
        assert_eq!(Framing::of("CSVWithNames").head(b"\"a\nb\",\"c\"\n1,2\n"), 10);
        assert_eq!(Framing::of("TSVWithNamesAndTypes").head(b"a\nUInt8\n1\n"), 8);
        assert_eq!(Framing::of("RowBinaryWithNamesAndTypes").head(b"\x01\x03abc\x06UInt64\x00"), 12);
        assert_eq!(Framing::of("RowBinaryWithNamesAndTypes").head(b"\x01\x03ab"), 0);
        assert_eq!(Framing::of("Native").head(b"\x01"), 0);
        assert_eq!(Framing::of("Parquet"), Framing::Whole);
    }
}
