//! The JSON Schema of the configuration, made from the commented default: types and defaults from the values, words from the comments.

use serde_json::{Map, Value, json};

/// The schema, as `schemas/config.schema.json` has it.
#[must_use]
pub fn schema() -> Value {
    let table: toml::Table = super::DEFAULT.parse().unwrap_or_default();
    let words = words();
    let mut schema = of_table(&table, "", &words);
    if let Value::Object(fields) = &mut schema {
        fields.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        fields.insert("title".to_owned(), json!("Weir's configuration"));
    }
    schema
}

/// What each key's comment says, by its path; a comment stands above its key or table.
fn words() -> Map<String, Value> {
    let mut words = Map::new();
    let (mut table, mut comment) = (String::new(), String::new());
    for line in super::DEFAULT.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            comment.push_str(if comment.is_empty() { "" } else { " " });
            comment.push_str(text);
            continue;
        }
        let path = if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').to_owned();
            table.clone()
        } else if let Some((key, _)) = line.split_once(" = ") {
            if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
        } else {
            comment.clear();
            continue;
        };
        if !comment.is_empty() {
            words.insert(path, Value::String(std::mem::take(&mut comment)));
        }
    }
    words
}

fn of_table(table: &toml::Table, path: &str, words: &Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let mut schema = match value {
            toml::Value::Table(inner) => of_table(inner, &path, words),
            other => json!({ "type": type_of(other), "default": other }),
        };
        if let (Value::Object(fields), Some(text)) = (&mut schema, words.get(&path)) {
            fields.insert("description".to_owned(), text.clone());
        }
        properties.insert(key.clone(), schema);
    }
    // Keys that the default leaves out, overrides and adapters, are in the comments: `weir check` is the judge of them.
    json!({ "type": "object", "properties": properties })
}

fn type_of(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) | toml::Value::Datetime(_) => "string",
        toml::Value::Integer(_) => "integer",
        toml::Value::Float(_) => "number",
        toml::Value::Boolean(_) => "boolean",
        toml::Value::Array(_) => "array",
        toml::Value::Table(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_this_one() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/config.schema.json");
        let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap_or_default()).unwrap_or_default();
        assert!(committed == schema(), "run: weir config schema > schemas/config.schema.json");
    }

    #[test]
    fn keys_carry_the_words_of_their_comments() {
        let schema = schema();
        assert_eq!(schema["properties"]["api"]["properties"]["listen"]["description"], "Where REST is served.");
        assert_eq!(schema["properties"]["api"]["properties"]["listen"]["default"], "127.0.0.1:8080");
    }
}
