//! A request of ClickHouse's HTTP interface taken apart: who asks, what, with which settings and parameters.

use sha2::{Digest as _, Sha256};

use super::session::{Ask, Settings};

/// Why a request is refused before the engine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not our parent.
    #[error(
        "Code: 516. DB::Exception: weir: Authentication failed: password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)"
    )]
    Stranger,
    /// A body that is compressed.
    #[error(
        "Code: 48. DB::Exception: this engine is on loopback and takes and gives nothing compressed: turn the client's compression off. (NOT_IMPLEMENTED)"
    )]
    Compressed,
    /// A session over several requests.
    #[error("Code: 48. DB::Exception: this engine has no sessions over several requests. (NOT_IMPLEMENTED)")]
    Session,
    /// No statement.
    #[error("Code: 62. DB::Exception: Syntax error: Empty query. (SYNTAX_ERROR)")]
    Empty,
    /// A statement that is no text.
    #[error("Code: 27. DB::Exception: the statement is not UTF-8, or the form is broken. (CANNOT_PARSE_INPUT_ASSERTION_FAILED)")]
    Malformed,
    /// Too many octets of a statement, or of the rows of an insert.
    #[error("Code: 307. DB::Exception: the body has more octets than this engine takes at once. (TOO_MANY_BYTES)")]
    TooLarge,
    /// A statement that changes something, by GET.
    #[error("Code: 164. DB::Exception: Cannot execute query in readonly mode: use POST. (READONLY)")]
    ReadOnly,
    /// Too many statements wait.
    #[error("Code: 202. DB::Exception: Too many simultaneous queries. (TOO_MANY_SIMULTANEOUS_QUERIES)")]
    Busy,
}

/// What is wanted, as the address of the request says; the body may say more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The statement and all that holds for it.
    pub ask: Ask,
    /// The format of a result if the statement names none.
    pub default_format: Option<String>,
    /// Whether the result is not to begin before its end, so that a refusal is never behind a part of it.
    pub is_whole: bool,
    /// The name of the statement that the client has given it.
    pub query_id: Option<String>,
    /// Who asks, by the address.
    pub user: Option<String>,
    /// The password, by the address.
    pub password: Option<String>,
}

impl Wanted {
    /// Takes the pairs of an address.
    ///
    /// # Errors
    ///
    /// [`RequestError::Compressed`], [`RequestError::Session`].
    pub fn of(pairs: Vec<(String, String)>) -> Result<Self, RequestError> {
        let mut wanted = Self::default();
        for (name, value) in pairs {
            wanted.take(name, value)?;
        }
        Ok(wanted)
    }

    fn take(&mut self, name: String, value: String) -> Result<(), RequestError> {
        let is_on = || !matches!(value.as_str(), "" | "0" | "false");
        match name.as_str() {
            "query" => self.ask.statement.push_str(&value),
            "database" => self.ask.database = Some(value).filter(|name| !name.is_empty()),
            "default_format" => self.default_format = Some(value),
            "query_id" => self.query_id = Some(value),
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "compress" | "decompress" if is_on() => return Err(RequestError::Compressed),
            "session_id" => return Err(RequestError::Session),
            "wait_end_of_query" => self.is_whole = is_on(),
            // Of the interface itself, and without a meaning here.
            "compress" | "decompress" | "buffer_size" | "role" | "quota_key" | "stacktrace" | "log_comment" => {}
            _ => match name.strip_prefix("param_") {
                Some(parameter) => self.ask.parameters.push((parameter.to_owned(), value)),
                None => drop(self.ask.settings.insert(name, value)),
            },
        }
        Ok(())
    }

    /// Takes a body that belongs to the statement: the fields of a form, or the rest of the text.
    ///
    /// # Errors
    ///
    /// [`RequestError::Malformed`].
    pub fn take_body(&mut self, content_type: Option<&str>, body: &[u8]) -> Result<(), RequestError> {
        let boundary = content_type.and_then(|kind| kind.strip_prefix("multipart/form-data")?.split("boundary=").nth(1));
        if let Some(boundary) = boundary {
            for (name, value) in fields(body, boundary.trim_matches('"')).ok_or(RequestError::Malformed)? {
                self.take(name, value)?;
            }
            return Ok(());
        }
        let text = std::str::from_utf8(body).map_err(|_| RequestError::Malformed)?;
        if !self.ask.statement.is_empty() && !text.is_empty() {
            self.ask.statement.push('\n');
        }
        self.ask.statement.push_str(text);
        Ok(())
    }

    /// The settings of the statement.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.ask.settings
    }
}

/// The fields of a form, names and values.
fn fields(body: &[u8], boundary: &str) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(body).ok()?;
    let delimiter = format!("--{boundary}");
    let mut found = Vec::new();
    // What stands before the first delimiter and behind the last is no field.
    let inner = text.split_once(&delimiter)?.1.rsplit_once(&format!("\r\n{delimiter}--"))?.0;
    for field in inner.split(&format!("\r\n{delimiter}")) {
        let (head, value) = field.split_once("\r\n\r\n")?;
        let name = head.split("name=\"").nth(1)?.split('"').next()?;
        found.push((name.to_owned(), value.to_owned()));
    }
    Some(found)
}

/// The secret that our parent and we share; two are compared by their digests, so that time tells nothing.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Secret {
    /// The secret of this text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Whether this is it.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.0 == <[u8; 32]>::from(Sha256::digest(text.as_bytes()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_address_names_statement_database_settings_and_parameters() {
        let wanted = Wanted::of(pairs(&[
            ("database", "weir"),
            ("query", "SELECT {a:UInt8}"),
            ("param_a", "1"),
            ("max_threads", "1"),
            ("decompress", "0"),
            ("wait_end_of_query", "1"),
        ]));
        assert!(wanted.as_ref().unwrap().is_whole);
        let ask = wanted.unwrap().ask;
        assert_eq!(ask.statement, "SELECT {a:UInt8}");
        assert_eq!(ask.database.as_deref(), Some("weir"));
        assert_eq!(ask.parameters, pairs(&[("a", "1")]));
        assert_eq!(ask.settings.into_iter().collect::<Vec<_>>(), pairs(&[("max_threads", "1")]));
        assert_eq!(Wanted::of(pairs(&[("decompress", "1")])), Err(RequestError::Compressed));
        assert_eq!(Wanted::of(pairs(&[("session_id", "x")])), Err(RequestError::Session));
    }

    #[test]
    fn a_body_is_the_rest_of_the_statement_or_a_form() {
        let mut wanted = Wanted::of(pairs(&[("query", "SELECT")])).unwrap();
        wanted.take_body(None, b"1").unwrap();
        assert_eq!(wanted.ask.statement, "SELECT\n1");
        let mut wanted = Wanted::default();
        let form = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {x:String}\r\n--b\r\nContent-Disposition: form-data; \
                    name=\"param_x\"\r\n\r\n1\r\n\r\n2\r\n--b--\r\n";
        wanted.take_body(Some("multipart/form-data; boundary=b"), form.as_bytes()).unwrap();
        assert_eq!(wanted.ask.statement, "SELECT {x:String}");
        assert_eq!(wanted.ask.parameters, pairs(&[("x", "1\r\n\r\n2")]));
        assert_eq!(wanted.take_body(Some("multipart/form-data; boundary=b"), b"--b"), Err(RequestError::Malformed));
        assert_eq!(wanted.take_body(None, b"\xff"), Err(RequestError::Malformed));
    }

    #[test]
    fn a_secret_knows_itself() {
        assert!(Secret::of("a").is("a"));
        assert!(!Secret::of("a").is("b"));
    }
}
