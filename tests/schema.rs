//! The store's tables on the real engine: made once, brought up to date, filled once whatever is sent twice; and a server that is too old.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use clickhouse::Client;
use collector::store::block::Encoder;
use collector::store::config::{Config, Embedded, Engine, Retention};
use collector::store::insert::Insert;
use collector::store::link::{Endpoint, client};
use collector::store::names::Nameless;
use collector::store::retain::{Dropped, trim};
use collector::store::schema::{MIGRATIONS, Schema, SchemaError};
use schemas::counter::SamplingSource;
use schemas::flow::{Column, ColumnSet, FlowBatch, Origin, Version};
use schemas::net::Address;
use schemas::time::Timestamp;
use tests::engine::Alone;
use tests::process::wait_until;

const NOW: u64 = 1_800_000_000_000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A block of flows of 1,000 octets and 4 packets, each sampled 1 in 10, and of two-way records besides.
fn block(rows: usize, hours_ago: u64) -> bytes::Bytes {
    block_of(&vec![NOW - hours_ago * 3_600_000; rows + 1])
}

/// The same with these ends, the last of which is that of a two-way record; they arrive at the latest.
fn block_of(ends: &[u64]) -> bytes::Bytes {
    let (rows, arrival) = (ends.len() - 1, *ends.iter().max().unwrap());
    let mut batch = FlowBatch::with_capacity(ends.len());
    for (row, end) in ends.iter().enumerate() {
        batch.source_address[row] = "192.0.2.1".parse().unwrap();
        batch.destination_address[row] = "2001:db8:1:2::1".parse().unwrap();
        batch.octet_delta_count[row] = 1_000;
        batch.packet_delta_count[row] = 4;
        batch.sampling_interval[row] = 10;
        batch.flow_end_milliseconds[row] = *end;
    }
    batch.reverse_octet_delta_count[rows] = 500;
    batch.reverse_packet_delta_count[rows] = 2;
    let one_way = ColumnSet::of(&[
        Column::SourceAddress,
        Column::DestinationAddress,
        Column::OctetDeltaCount,
        Column::PacketDeltaCount,
        Column::SamplingInterval,
        Column::FlowEndMilliseconds,
    ]);
    let origin = Origin {
        exporter: Address::from_v4(0x0a00_0001),
        source_port: 1,
        version: Version::Ipfix,
        observation_domain_id: 7,
        template_id: 256,
        arrival_milliseconds: arrival,
        export_milliseconds: arrival,
        clock_offset_milliseconds: 0,
        time_resolution_milliseconds: 1,
        sampling_source: SamplingSource::Options,
        present: one_way,
        derived: ColumnSet::default(),
    };
    batch.commit(rows, origin);
    let two_way = one_way.union(ColumnSet::of(&[Column::ReverseOctetDeltaCount, Column::ReversePacketDeltaCount]));
    batch.commit(1, Origin { present: two_way, ..origin });
    Encoder::new(5_000).encode(&batch, &Nameless, Timestamp(NOW))
}

async fn insert(client: &Client, id: u128, octets: bytes::Bytes) -> Result<(), clickhouse::error::Error> {
    insert_as(&Insert::flows(0), client, id, octets).await
}

async fn insert_as(insert: &Insert, client: &Client, id: u128, octets: bytes::Bytes) -> Result<(), clickhouse::error::Error> {
    let mut request = client.insert_formatted_with(insert.statement.as_str());
    for (name, value) in &insert.settings {
        request = request.with_setting(name, value);
    }
    let mut request = request.with_setting("insert_deduplication_token", format!("{id:032x}"));
    request.send(octets).await?;
    request.end().await
}

fn sums(engine: &Alone, table: &str) -> String {
    engine.query(&format!("SELECT concat(toString(sum(octets)), ' ', toString(sum(packets)), ' ', toString(sum(flows))) FROM weir.{table}"))
}

#[test]
fn a_block_that_is_sent_again_is_stored_once_in_every_table_and_equal_blocks_are_both_kept() {
    let engine = Alone::start();
    let client = engine.link().client().unwrap();
    runtime().block_on(async {
        let schema = Schema::new(&Config::default(), "weir").unwrap();
        schema.prepare(&client).await.unwrap();
        // Nothing is left to do the second time.
        schema.prepare(&client).await.unwrap();
        for id in [1, 1, 2, 1, 2] {
            insert(&client, id, block(9, 0)).await.unwrap();
        }
    });
    // Two blocks of 10 records, of which one has a way back: 10 × 1,000 × 10 octets, and 500 × 10.
    assert_eq!(engine.query("SELECT count() FROM weir.flows"), "20");
    for table in ["traffic_1m", "traffic_1h", "as_1m", "as_1h", "application_1m", "application_1h"] {
        assert_eq!(sums(&engine, table), "210000 840 220", "{table}");
    }
    for table in ["prefix_1m", "prefix_1h"] {
        assert_eq!(sums(&engine, &format!("{table} WHERE side = 'source'")), "210000 840 220", "{table}");
        assert_eq!(
            engine.query(&format!(
                "SELECT DISTINCT concat(toString(prefix), '/', toString(prefix_length)) AS text FROM weir.{table} ORDER BY text"
            )),
            "2001:db8:1::/48\n::ffff:192.0.2.0/24"
        );
    }
    assert_eq!(engine.query("SELECT count() FROM weir.migrations"), MIGRATIONS.len().to_string());
    assert_eq!(engine.stop(), "exit code 0");
}

#[test]
fn minutes_of_counters_that_are_sent_again_are_stored_once() {
    let engine = Alone::start();
    let client = engine.link().client().unwrap();
    let minute = |interface: u32| {
        format!(
            r#"{{"time":1800000000,"exporter":"::ffff:192.0.2.1","interface":{interface},"origin":"snmp","octets_in":7,"milliseconds":60000,"up":true}}"#
        )
    };
    let rows: String = (0..3).map(|interface| minute(interface) + "\n").collect();
    runtime().block_on(async {
        Schema::new(&Config::default(), "weir").unwrap().prepare(&client).await.unwrap();
        for id in [1, 1, 2] {
            insert_as(&Insert::interface_counters(0), &client, id, rows.clone().into()).await.unwrap();
        }
    });
    assert_eq!(engine.query("SELECT count(), sum(octets_in), countIf(up) FROM weir.interface_counters"), "6\t42\t6");
    assert_eq!(engine.stop(), "exit code 0");
}

#[test]
fn what_a_view_has_missed_is_made_up_for_when_the_block_is_sent_again() {
    let engine = Alone::start();
    let client = engine.link().client().unwrap();
    runtime().block_on(async {
        Schema::new(&Config::default(), "weir").unwrap().prepare(&client).await.unwrap();
        // The block is in the table of flows and in some sums when the insert fails at this one, as if the engine had been killed there.
        engine.query("RENAME TABLE weir.prefix_1m TO weir.away");
        insert(&client, 1, block(9, 0)).await.unwrap_err();
        engine.query("RENAME TABLE weir.away TO weir.prefix_1m");
        insert(&client, 1, block(9, 0)).await.unwrap();
        insert(&client, 1, block(9, 0)).await.unwrap();
    });
    assert_eq!(engine.query("SELECT count() FROM weir.flows"), "10");
    for table in
        ["traffic_1m", "traffic_1h", "as_1m", "application_1h", "prefix_1m WHERE side = 'source'", "prefix_1h WHERE side = 'source'"]
    {
        assert_eq!(sums(&engine, table), "105000 420 110", "{table}");
    }
    assert_eq!(engine.stop(), "exit code 0");
}

/// A row in each of 144 hours, as an exporter may claim: the table has them in six, and sums have them all.
#[test]
fn a_block_of_many_hours_is_few_parts() {
    let engine = Alone::start();
    let client = engine.link().client().unwrap();
    let ends: Vec<u64> = (0..144).map(|hour| NOW - hour * 3_600_000).collect();
    let block = block_of(&ends);
    runtime().block_on(async {
        let config =
            Config { retention: Retention { flows_days: 0, minutes_days: 0, hours_days: 0, ..Retention::default() }, ..Config::default() };
        Schema::new(&config, "weir").unwrap().prepare(&client).await.unwrap();
        for _ in 0..2 {
            insert(&client, 1, block.clone()).await.unwrap();
        }
    });
    assert_eq!(engine.query("SELECT uniq(toStartOfHour(time)), count() FROM weir.flows"), "6\t144");
    // 143 records of 1,000 octets and one that has 500 of them back as well, each 1 in 10.
    assert_eq!(sums(&engine, "traffic_1h"), "1445000 5780 1450");
    assert_eq!(engine.stop(), "exit code 0");
}

#[test]
fn tables_follow_the_config_and_a_newer_or_changed_database_is_refused() {
    let engine = Alone::start();
    let client = engine.link().client().unwrap();
    let mut config = Config::default();
    let prepare = |config: &Config| runtime().block_on(Schema::new(config, "weir").unwrap().prepare(&client));
    let engine_of =
        |table: &str| engine.query(&format!("SELECT engine_full FROM system.tables WHERE database = 'weir' AND name = '{table}'"));
    prepare(&config).unwrap();
    assert!(engine_of("flows").contains("TTL time + toIntervalDay(7) "), "{}", engine_of("flows"));
    assert!(engine_of("as_1h").contains("non_replicated_deduplication_window = 81000"), "{}", engine_of("as_1h"));
    config.retention = Retention { flows_days: 3, hours_days: 0, ..Retention::default() };
    config.spool.blocks_max = 20_000;
    prepare(&config).unwrap();
    assert!(engine_of("flows").contains("TTL time + toIntervalDay(3) "));
    assert!(engine_of("prefix_1m").contains("TTL time + toIntervalDay(90) "));
    assert!(!engine_of("as_1h").contains("TTL"));
    assert!(engine_of("as_1h").contains("non_replicated_deduplication_window = 161000"));
    engine.query("INSERT INTO weir.migrations (version, name, checksum) SETTINGS async_insert = 0 VALUES (9000, 'later', '')");
    assert!(matches!(prepare(&config), Err(SchemaError::Newer { found: 9_000, .. })));
    engine.query("TRUNCATE TABLE weir.migrations");
    engine.query("INSERT INTO weir.migrations (version, name, checksum) SETTINGS async_insert = 0 VALUES (1, '', 'else')");
    assert!(matches!(prepare(&config), Err(SchemaError::Changed { .. })));
    assert_eq!(engine.stop(), "exit code 0");
}

#[test]
fn what_is_over_the_bound_goes_by_the_hour_and_the_newest_hour_stays() {
    let engine = Alone::start();
    let client = engine.link().client().unwrap();
    let schema =
        Schema::new(&Config { retention: Retention { flows_days: 0, ..Retention::default() }, ..Config::default() }, "weir").unwrap();
    let dropped = Dropped::default();
    runtime().block_on(async {
        schema.prepare(&client).await.unwrap();
        for (id, hours_ago) in [(1, 0), (2, 1), (3, 2)] {
            insert(&client, id, block(9, hours_ago)).await.unwrap();
        }
        let keep_all = Retention { flows_octets_max: 1 << 40, ..Retention::default() };
        trim(&client, &schema, &keep_all, &dropped).await.unwrap();
        assert_eq!(engine.query("SELECT count() FROM weir.flows"), "30");
        trim(&client, &schema, &Retention { flows_octets_max: 1, ..Retention::default() }, &dropped).await.unwrap();
    });
    assert_eq!(engine.query("SELECT count(), toUnixTimestamp(min(time)) FROM weir.flows"), format!("10\t{}", NOW / 1_000));
    assert_eq!(dropped.counts().next().map(|(_, partitions)| partitions), Some(2));
    assert_eq!(engine.stop(), "exit code 0");
}

/// What is made on a cluster parses in the real engine, and is replicated, distributed, and everywhere.
#[test]
fn the_statements_for_a_cluster_are_clickhouses_own() {
    let engine = Alone::start();
    let mut config = Config { engine: Engine::Clickhouse, ..Config::default() };
    config.clickhouse.cluster = "edge".to_owned();
    let schema = Schema::new(&config, "weir").unwrap();
    let statements: Vec<String> = MIGRATIONS.iter().flat_map(|migration| schema.filling().statements(migration.text)).collect();
    for statement in &statements {
        engine.query(&format!("EXPLAIN AST {statement}"));
        assert!(statement.contains("ON CLUSTER 'edge'") && !statement.contains("${"), "{statement}");
    }
    let tables = statements.iter().filter(|statement| statement.starts_with("CREATE TABLE"));
    let (distributed, replicated): (Vec<&String>, Vec<&String>) =
        tables.partition(|statement| statement.contains("Distributed('edge', 'weir', '"));
    assert_eq!((distributed.len(), replicated.len()), (11, 11));
    assert!(replicated.iter().all(|statement| statement.contains("_local ") && statement.contains("ENGINE = Replicated")));
    assert_eq!(engine.stop(), "exit code 0");
}

/// Three shards: two are this engine, which is what answers at the port that it is told is its own, and at the third nobody answers.
const CLUSTER: &str = "<clickhouse><tcp_port>19000</tcp_port><remote_servers><edge>\
    <shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>19000</port></replica></shard>\
    <shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>19000</port></replica></shard>\
    <shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>1</port></replica></shard>\
    </edge></remote_servers></clickhouse>";

/// As on every server of a cluster, but for what an engine within a process has not: the queue of `ON CLUSTER`, and an address for other
/// replicas, without which replicated tables stay read-only.
fn on_one_server(statement: &str) -> String {
    let plain = statement.replace("ON CLUSTER 'edge'", "").replace("ENGINE = Replicated", "ENGINE = ");
    plain.replace(", replicated_deduplication_window_seconds = 2592000", "").replace(" replicated_dedup", " non_replicated_dedup")
}

#[test]
fn on_a_cluster_a_block_goes_to_its_shard_as_a_whole_and_is_there_once() {
    let folder = std::env::temp_dir().join(format!("weir-tests-cluster-{}", std::process::id()));
    fs::create_dir_all(folder.join("engine")).unwrap();
    fs::write(folder.join("engine/config.xml"), CLUSTER).unwrap();
    let engine = Alone::start_in(&folder, &Embedded::default());
    engine.wait_until_up();
    let client = engine.link().client().unwrap();
    let mut config = Config { engine: Engine::Clickhouse, ..Config::default() };
    config.clickhouse.cluster = "edge".to_owned();
    let schema = Schema::new(&config, "weir").unwrap();
    for statement in MIGRATIONS.iter().flat_map(|migration| schema.filling().statements(migration.text)) {
        engine.query(&on_one_server(&statement));
    }
    runtime().block_on(async {
        let shards = schema.shards(&client).await.unwrap();
        assert_eq!(shards, 3);
        let to = |id: u128, shards_then: u32| {
            let mut to = Insert::flows(shards);
            to.settings.push(("insert_shard_id".to_owned(), to.shard(uuid::Uuid::from_u128(id), shards_then).unwrap().to_string()));
            to
        };
        // Each twice: those of the first two shards are stored once, and of those of the third nothing.
        for id in [0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 0] {
            let outcome = insert_as(&to(id, 0), &client, id, block(9, 0)).await;
            assert_eq!(outcome.is_ok(), id % 3 != 2, "{id}: {outcome:?}");
        }
        // One that was first sent when there were two shards has not gone to the third since.
        insert_as(&to(5, 2), &client, 5, block(9, 0)).await.unwrap();
    });
    // Five blocks of 10 records, as in the test of blocks that are sent again.
    assert_eq!(engine.query("SELECT count() FROM weir.flows_local"), "50");
    for table in ["traffic_1m_local", "traffic_1h_local", "as_1m_local", "application_1h_local"] {
        assert_eq!(sums(&engine, table), "525000 2100 550", "{table}");
    }
    // What is asked of all shards finds them at each that answers.
    assert_eq!(engine.query("SELECT count() FROM weir.flows SETTINGS skip_unavailable_shards = 1"), "100");
    assert_eq!(engine.stop(), "exit code 0");
}

/// Debian's server is of 2018: it is told which version is needed, and nothing is made on it.
#[test]
fn a_server_that_is_too_old_is_refused_with_the_version_that_is_needed() {
    let folder = std::env::temp_dir().join(format!("weir-tests-old-server-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let [http, tcp] = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    let (http_port, tcp_port) = (http.local_addr().unwrap().port(), tcp.local_addr().unwrap().port());
    drop((http, tcp));
    let data = folder.display();
    fs::write(
        folder.join("config.xml"),
        format!(
            "<yandex><logger><level>error</level><console>1</console></logger><http_port>{http_port}</http_port><tcp_port>{tcp_port}</tcp_port>\
             <listen_host>127.0.0.1</listen_host><path>{data}/data/</path><tmp_path>{data}/tmp/</tmp_path><users_config>users.xml</users_config>\
             <default_profile>default</default_profile><default_database>default</default_database><mark_cache_size>5368709120</mark_cache_size></yandex>"
        ),
    )
    .unwrap();
    fs::write(
        folder.join("users.xml"),
        "<yandex><profiles><default/></profiles><quotas><default/></quotas><users><default><password></password>\
         <networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users></yandex>",
    )
    .unwrap();
    let mut server = Command::new("clickhouse-server")
        .arg(format!("--config-file={data}/config.xml"))
        .current_dir(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("clickhouse-server is installed (Debian: clickhouse-server)");
    let endpoint = Endpoint {
        url: format!("http://127.0.0.1:{http_port}"),
        user: "default".to_owned(),
        password: String::new(),
        database: "weir".to_owned(),
        is_remote: true,
    };
    let is_up = || std::net::TcpStream::connect(("127.0.0.1", http_port)).is_ok();
    wait_until("the old server answers", Duration::from_secs(30), is_up);
    let outcome = runtime().block_on(Schema::new(&Config::default(), "weir").unwrap().prepare(&client(&endpoint)));
    server.kill().unwrap();
    server.wait().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(outcome.unwrap_err().to_string(), "this is ClickHouse 18.16.1, and 24.8 or later is needed");
}
