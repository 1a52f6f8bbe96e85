-- A finished run of two tasks in the first version of the journal.
PRAGMA user_version = 1;
INSERT INTO plans VALUES ('x', 1);
INSERT INTO runs VALUES (1, 'x-1', 'x', 1, 1, '00', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'refs/heads/swarm/x', 1700000000000, 1700000000100, 0, '{"instances":2,"finished":2,"passed":2,"landed":1}');
INSERT INTO sources VALUES (1, 0, 'x.toml', 'version = 1');
INSERT INTO events VALUES (1, 1, 1700000000000, '{"event":"run-started","run":"x-1","plan":"x","base":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","target":"refs/heads/swarm/x","jobs":2,"backend":"overlay","enforcement":{"tier":"namespaces","landlock_abi":7,"enforced":["landlock"],"not_enforced":[]},"notes":[]}');
INSERT INTO events VALUES (1, 2, 1700000000010, '{"event":"instances-added","instances":[{"id":"a","task":"a","needs":[],"on-failure":"fail"},{"id":"b","task":"b","needs":["a"]}]}');
INSERT INTO events VALUES (1, 3, 1700000000020, '{"event":"attempt-started","instance":"a","attempt":1}');
INSERT INTO events VALUES (1, 4, 1700000000030, '{"event":"attempt-finished","instance":"a","attempt":1,"end":{"end":"succeeded"},"duration-ms":5,"change":{"base-tree":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","commit":"cccccccccccccccccccccccccccccccccccccccc","tree":"dddddddddddddddddddddddddddddddddddddddd","files":1},"outputs":{"x":"1"},"notes":[],"retry-in-ms":null}');
INSERT INTO events VALUES (1, 5, 1700000000040, '{"event":"instance-finished","instance":"a","result":"succeeded","cause":null}');
INSERT INTO events VALUES (1, 6, 1700000000050, '{"event":"landing","from":null,"to":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"}');
INSERT INTO events VALUES (1, 7, 1700000000060, '{"event":"merged","instance":"a","fate":{"fate":"landed","commit":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"}}');
INSERT INTO events VALUES (1, 8, 1700000000070, '{"event":"attempt-started","instance":"b","attempt":1}');
INSERT INTO events VALUES (1, 9, 1700000000080, '{"event":"attempt-finished","instance":"b","attempt":1,"end":{"end":"succeeded"},"duration-ms":5,"change":null,"outputs":{},"notes":[],"retry-in-ms":null}');
INSERT INTO events VALUES (1, 10, 1700000000090, '{"event":"instance-finished","instance":"b","result":"succeeded","cause":null}');
INSERT INTO events VALUES (1, 11, 1700000000100, '{"event":"run-finished","exit":0,"tip":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee","cause":null}');
INSERT INTO durations VALUES ('x', 'a', 5, 5, 1);
