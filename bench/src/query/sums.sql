-- Days of sums, a row for each group and minute (hour for autonomous systems), by a hash of their numbers; the engine's own views make hours of minutes.
INSERT INTO weir.traffic_1m (time, exporter, ingress_interface, egress_interface, flow_direction, is_repeat, ingress_boundary, egress_boundary,
 protocol_identifier, source_customer, destination_customer, octets, packets, flows, unknown_flows, octets_variance, packets_variance)
WITH intDiv(number, 200) AS minute, number % 200 AS customer, cityHash64(number) AS hash
SELECT toDateTime({from} + minute * 60, 'UTC'), IPv4ToIPv6(CAST(toUInt32(3221225985 + customer % 4) AS IPv4)), 10 + customer % 4, 100 + customer % 40, 0, 0,
 'external', 'internal', [6, 17, 1][customer % 3 + 1], '', concat('customer ', toString(customer)),
 hash % 1000000000, hash % 1000000, hash % 10000, 0, 0, 0
FROM numbers_mt({minutes} * 200)
SETTINGS async_insert = 0, max_threads = 2;

INSERT INTO weir.application_1m (time, exporter, protocol_identifier, application, octets, packets, flows, unknown_flows, octets_variance, packets_variance)
WITH intDiv(number, 36) AS minute, number % 36 AS group, cityHash64(number) AS hash
SELECT toDateTime({from} + minute * 60, 'UTC'), IPv4ToIPv6(CAST(toUInt32(3221225985 + group % 4) AS IPv4)), [6, 17, 17, 6, 17, 1, 6, 6, 17][intDiv(group, 4) + 1],
 ['https', 'quic', 'dns', 'http', 'ntp', '', 'smtp', 'ssh', ''][intDiv(group, 4) + 1],
 hash % 10000000000, hash % 10000000, hash % 100000, 0, 0, 0
FROM numbers_mt({minutes} * 36)
SETTINGS async_insert = 0, max_threads = 2;

INSERT INTO weir.as_1h (time, source_as, destination_as, source_country, destination_country, octets, packets, flows, unknown_flows, octets_variance, packets_variance)
WITH intDiv(number, 20480) AS hour, number % 20480 AS rank, cityHash64(number) AS hash
SELECT toDateTime({from} + hour * 3600, 'UTC'), 1000 + rank, 64500, ['US', 'DE', 'NL', 'FR', 'GB', 'CN', 'BR', 'IN'][rank % 8 + 1], 'DE',
 intDiv(hash % 1000000000000, rank + 1), intDiv(hash % 1000000000, rank + 1), intDiv(hash % 10000000, rank + 1) + 1, 0, 0, 0
FROM numbers_mt(intDiv({minutes}, 60) * 20480)
SETTINGS async_insert = 0, max_threads = 2
