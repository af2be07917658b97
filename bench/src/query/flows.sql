-- An hour of flows, as many as are wanted, by a hash of their numbers: the same each time. Services, directions and tails are those of
-- the sender's traffic; peers are of 20,480 autonomous systems, a /16 each, of which the n-th has 1/n of the flows of the first; of 65,536
-- hosts half of the traffic falls on a fifth; 256 customers, a /24 each, lie behind 40 interfaces of 4 exporters.
INSERT INTO weir.flows (time, received_at, flow_start_milliseconds, flow_end_milliseconds, exporter, observation_domain_id, version, template_id,
 sampling_interval, sampling_source, source_address, destination_address, source_port, destination_port, protocol_identifier, tcp_control_bits,
 octets, packets, ingress_interface, egress_interface, flow_direction, ingress_boundary, egress_boundary,
 bgp_source_as_number, bgp_destination_as_number, source_country, destination_country, source_customer, destination_customer,
 source_prefix_length, destination_prefix_length, application, ip_ttl)
WITH
 {from} AS from_second, {seconds} AS seconds, {rows} AS rows_in_all,
 (cityHash64(number, 1) + 0.5) / 18446744073709551616. AS u1,
 (cityHash64(number, 2) + 0.5) / 18446744073709551616. AS u2,
 (cityHash64(number, 3) + 0.5) / 18446744073709551616. AS u3,
 cityHash64(number, 4) AS h4, cityHash64(number, 5) AS h5,
 toUInt32(pow(20480, u1)) - 1 AS rank,
 toUInt32(335544320 + bitXor(rank * 2654435, 12345) % 20480 * 65536 + toUInt32(pow(256, u2) - 1) * 256 + h4 % 256) AS peer,
 toUInt32(167772160 + toUInt32(65536 * u3 * (bitShiftRight(h4, 8) % 65536 + 0.5) / 65536)) AS host,
 intDiv(host % 65536, 256) AS customer,
 bitShiftRight(h4, 24) % 1000 AS service,
 bitShiftRight(h4, 40) % 100 < 60 AS incoming,
 multiIf(service < 420, (6, 443), service < 640, (17, 443), service < 790, (17, 53), service < 870, (6, 80), service < 900, (17, 123), service < 930, (1, 0), service < 960, (6, 25), service < 980, (6, 22), (17, 3074)) AS kind,
 multiIf(service < 640, 4000, service < 790, 2, service < 870, 500, service < 900, 1, service < 930, 5, 300) AS packets_max,
 toUInt64(least(65536 / (h5 % 65536 + 1), packets_max)) AS packet_count,
 toUInt64(from_second * 1000 + intDiv(number * seconds * 1000, rows_in_all)) AS end_milliseconds,
 ['US','DE','NL','FR','GB','CN','BR','IN','JP','RU','PL','IT','ES','SE','CH','AT','CZ','UA','TR','CA','AU','KR','MX','ZA','SG','HK','TW','ID','VN','TH','AR','CL','CO','PT','BE','DK','NO','FI','IE','RO'] AS countries
SELECT
 toDateTime(intDiv(end_milliseconds, 1000), 'UTC'), fromUnixTimestamp64Milli(end_milliseconds + 200, 'UTC'),
 fromUnixTimestamp64Milli(end_milliseconds - least(packet_count * 125, 60000), 'UTC'), fromUnixTimestamp64Milli(end_milliseconds, 'UTC'),
 IPv4ToIPv6(CAST(toUInt32(3221225985 + customer % 4) AS IPv4)), 1, 'netflow9', 256, 1, 'options',
 IPv4ToIPv6(CAST(if(incoming, peer, host) AS IPv4)), IPv4ToIPv6(CAST(if(incoming, host, peer) AS IPv4)),
 if(incoming, kind.2, 1024 + bitShiftRight(h5, 16) % 64512), if(incoming, 1024 + bitShiftRight(h5, 16) % 64512, kind.2), kind.1, if(kind.1 = 6, if(packet_count > 3, 27, 16), 0),
 packet_count * (60 + bitShiftRight(h5, 32) % 1440), packet_count,
 if(incoming, 10 + bitShiftRight(h5, 48) % 4, 100 + customer % 40), if(incoming, 100 + customer % 40, 10 + bitShiftRight(h5, 48) % 4), if(incoming, 0, 1),
 if(incoming, 'external', 'internal'), if(incoming, 'internal', 'external'),
 if(incoming, 1000 + rank, 64500), if(incoming, 64500, 1000 + rank), if(incoming, countries[rank % 40 + 1], 'DE'), if(incoming, 'DE', countries[rank % 40 + 1]),
 if(incoming, '', concat('customer ', toString(customer))), if(incoming, concat('customer ', toString(customer)), ''),
 24, 24,
 multiIf(service < 420, 'https', service < 640, 'quic', service < 790, 'dns', service < 870, 'http', service < 900, 'ntp', service < 930, '', service < 960, 'smtp', service < 980, 'ssh', ''),
 40 + bitShiftRight(h5, 56) % 88
FROM numbers_mt({first}, {count})
SETTINGS async_insert = 0, max_insert_block_size = 1048576, min_insert_block_size_rows = 1048576, min_insert_block_size_bytes = 0, max_threads = 2, max_insert_threads = 2
