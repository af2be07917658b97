//! The files of `schemas/clickhouse` as statements: what is filled in, and where one ends and the next begins.

/// What differs between one installation's tables and another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filling {
    /// The database that holds our tables.
    pub database: String,
    /// The cluster that they are made on; empty = a single server.
    pub cluster: String,
    /// How many blocks a table remembers, so that none of them is stored twice.
    pub blocks_remembered: u64,
}

impl Filling {
    /// The ending of tables that hold rows.
    #[must_use]
    pub fn local(&self) -> &'static str {
        if self.cluster.is_empty() { "" } else { "_local" }
    }

    /// What a statement says that is for every server of the cluster.
    #[must_use]
    pub fn on_cluster(&self) -> String {
        if self.cluster.is_empty() { String::new() } else { format!("ON CLUSTER '{}'", self.cluster) }
    }

    /// The settings of a table by which it remembers the blocks that it holds, as the engine writes them back.
    #[must_use]
    pub fn deduplication(&self) -> Vec<String> {
        let blocks = self.blocks_remembered;
        if self.cluster.is_empty() {
            return vec![format!("non_replicated_deduplication_window = {blocks}")];
        }
        // A month: the spool waits as long as it has room.
        vec![format!("replicated_deduplication_window = {blocks}"), "replicated_deduplication_window_seconds = 2592000".to_owned()]
    }

    /// The statements of a file, filled in; those for clusters only are left out on a single server.
    #[must_use]
    pub fn statements(&self, file: &str) -> Vec<String> {
        let all = split(file).into_iter();
        let wanted = all.filter(|statement| !self.cluster.is_empty() || !statement.contains("${cluster}"));
        wanted.map(|statement| self.fill(&statement)).collect()
    }

    fn fill(&self, statement: &str) -> String {
        let engines = if self.cluster.is_empty() {
            ["MergeTree", "SummingMergeTree"]
        } else {
            // Where in the keeper they meet is the servers' to say: default_replica_path, by table and shard.
            ["ReplicatedMergeTree", "ReplicatedSummingMergeTree"]
        };
        let [merge_tree, summing_merge_tree] = engines;
        [
            ("${database}", self.database.as_str()),
            ("${cluster}", self.cluster.as_str()),
            ("${local}", self.local()),
            ("${on_cluster}", &self.on_cluster()),
            ("${merge_tree}", merge_tree),
            ("${summing_merge_tree}", summing_merge_tree),
            ("${deduplication}", &self.deduplication().join(", ")),
        ]
        .into_iter()
        .fold(statement.to_owned(), |text, (word, value)| text.replace(word, value))
    }
}

/// Splits a file at the semicolons that end statements: those in texts in quotes and in comments end none.
///
/// Comments from `--` to the end of their line are left out.
#[must_use]
pub fn split(file: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut characters = file.chars().peekable();
    let mut quote = None;
    while let Some(character) = characters.next() {
        if quote.is_none() && character == '-' && characters.peek() == Some(&'-') {
            // The line's end stays: it parts words.
            while characters.next_if(|&next| next != '\n').is_some() {}
            continue;
        }
        if quote.is_none() && character == ';' {
            statements.push(String::new());
            continue;
        }
        let Some(statement) = statements.last_mut() else { break };
        statement.push(character);
        match quote {
            Some(_) if character == '\\' => statement.extend(characters.next()),
            Some(open) if character == open => quote = None,
            None if matches!(character, '\'' | '"' | '`') => quote = Some(character),
            _ => {}
        }
    }
    let trimmed = statements.iter().map(|statement| statement.trim().to_owned());
    trimmed.filter(|statement| !statement.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filling(cluster: &str) -> Filling {
        Filling { database: "weir".to_owned(), cluster: cluster.to_owned(), blocks_remembered: 41_000 }
    }

    #[test]
    fn semicolons_in_quotes_and_comments_end_no_statement() {
        let file = "-- one; two\nSELECT ';' -- it's three;\n, 'a\\';b', \"c;d\", `e;f`, 1 - -1;\n\n;SELECT 2;\n-- the end";
        assert_eq!(split(file), ["SELECT ';' \n, 'a\\';b', \"c;d\", `e;f`, 1 - -1", "SELECT 2"]);
    }

    #[test]
    fn a_single_server_gets_plain_tables_and_no_statement_for_clusters() {
        let file = "CREATE TABLE ${database}.a${local} ${on_cluster} ENGINE = ${merge_tree} SETTINGS ${deduplication};\n\
                    CREATE TABLE ${database}.a ${on_cluster} ENGINE = Distributed('${cluster}');";
        assert_eq!(
            filling("").statements(file),
            ["CREATE TABLE weir.a  ENGINE = MergeTree SETTINGS non_replicated_deduplication_window = 41000"]
        );
        assert_eq!(
            filling("edge").statements(file),
            [
                "CREATE TABLE weir.a_local ON CLUSTER 'edge' ENGINE = ReplicatedMergeTree SETTINGS \
                 replicated_deduplication_window = 41000, replicated_deduplication_window_seconds = 2592000",
                "CREATE TABLE weir.a ON CLUSTER 'edge' ENGINE = Distributed('edge')",
            ]
        );
    }
}
