import RedirectPolicy
import Testing

@testable import Daemon

/// What people and programs read of a run.
struct RunStatusTests {
  /// A run that has just begun.
  static let quiet = RunStatus(
    version: "1.2", process: 7, uptime: 59, scope: "TCP from lan0", balance: nil,
    upstreams: [
      .init(
        url: "socks5://me:***@192.0.2.1:1080", health: .unknown, ipv6: true, datagrams: "unknown",
        pipelined: false)
    ],
    rules: .init(phase: .capturing, restored: 0, changed: 0, trouble: nil),
    sessions: .init(live: 0, opened: 0, failed: 0, retried: 0),
    associations: .init(live: 0, opened: 0), bytes: .init(sent: 0, received: 0),
    datagrams: .init(sent: 0, received: 0),
    queries: .init(carried: 0, answered: 0, truncated: 0, failed: 0), rates: .init(), pauses: 0,
    failures: [:], drops: [:], limits: [.init(name: "descriptors", used: 0, limit: 900)])

  static let quietLine = """
    {"associations":{"live":0,"opened":0},"bytes":{"received":0,"sent":0},\
    "datagrams":{"received":0,"sent":0},"drops":{},"failures":{},\
    "limits":[{"limit":900,"name":"descriptors","used":0}],"pauses":0,"process":7,\
    "queries":{"answered":0,"carried":0,"failed":0,"truncated":0},\
    "rates":{"received":0,"sent":0,"sessions":0},\
    "rules":{"changed":0,"phase":"capturing","restored":0},"scope":"TCP from lan0",\
    "sessions":{"failed":0,"live":0,"opened":0,"retried":0},\
    "upstreams":[{"datagrams":"unknown","health":"unknown","ipv6":true,"pipelined":false,\
    "url":"socks5://me:***@192.0.2.1:1080"}],"uptime":59,"version":"1.2"}
    """

  @Test func quietRun() {
    #expect(
      "\(Self.quiet)" == """
        sluice    1.2, pid 7, up 59 s
        captures  TCP from lan0
        upstream  socks5://me:***@192.0.2.1:1080: UDP unknown, IPv6 carried, handshake step by step
        flows     0 open, 0 in all (0.0/s), 0 failed
        bytes     0 B sent (0 B/s), 0 B received (0 B/s)
        rules     in place, put back 0 times
        limits    descriptors 0 of 900
        """)
  }

  @Test func busyRun() {
    var status = Self.quiet
    status.uptime = 90_061
    status.balance = "hash"
    status.upstreams = [
      .init(
        url: "socks5://a:1080", health: .up, ipv6: true, datagrams: "relayed", pipelined: true,
        probe: .init(age: 61, milliseconds: 12, failure: nil)),
      .init(
        url: "http://b:8080", health: .down, ipv6: false, datagrams: "refused", pipelined: false,
        probe: .init(age: 2, milliseconds: 0, failure: "connect_refused")),
    ]
    status.rules = .init(phase: .suspended, restored: 2, changed: 1, trouble: "not permitted")
    status.sessions = .init(live: 3, opened: 100, failed: 9, retried: 1)
    status.failures = ["reply_other": 2, "connect_refused": 5, "a": 2]
    status.associations = .init(live: 1, opened: 4)
    status.datagrams = .init(sent: 10, received: 8)
    status.drops = ["evicted": 1]
    status.queries = .init(carried: 6, answered: 5, truncated: 0, failed: 1)
    status.bytes = .init(sent: 1536, received: 3 << 20)
    status.rates = .init(sessions: 1.5, sent: 2048.4, received: 0)
    status.pauses = 4
    status.limits.append(.init(name: "associations", used: 1, limit: 8))
    #expect(
      "\(status)" == """
        sluice      1.2, pid 7, up 1 d 1 h
        captures    TCP from lan0 (suspended)
        upstream    socks5://a:1080: up, UDP relayed, IPv6 carried, handshake in one write; \
        answered 1 min 1 s ago, in 12 ms
        upstream    http://b:8080: down, UDP refused, IPv6 refused, handshake step by step; \
        failed when asked 2 s ago: connect_refused
        balance     hash
        flows       3 open, 100 in all (1.5/s), 9 failed: 5 connect_refused, 2 a, 2 reply_other
        bytes       1.5 KiB sent (2.0 KiB/s), 3.0 MiB received (0 B/s)
        UDP         1 clients, 4 in all; 10 sent, 8 received, dropped: 1 evicted
        DNS by TCP  6 queries, 5 answered, 1 failed
        rules       in place, put back 2 times, 1 kernel settings changed by others; \
        cannot put back what somebody took away: not permitted
        limits      descriptors 0 of 900, associations 1 of 8; accepting has paused 4 times
        """)
  }

  @Test(
    arguments: [
      (0, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"),
      (86_399, "23 h 59 min"), (86_400, "1 d 0 h"), (1_000_000, "11 d 13 h"),
    ] as [(UInt64, String)])
  func spanHasTwoUnits(seconds: UInt64, text: String) {
    #expect(RunStatus.span(seconds) == text)
  }

  @Test func rulesAreAsRecorded() {
    let record = RuleRecord()
    #expect(RunStatus.Rules(record.state).phase == .absent)
    record.note {
      $0.phase = .draining
      $0.restored += 1
      $0.trouble = "x"
    }
    #expect(
      RunStatus.Rules(record.state)
        == .init(phase: .draining, restored: 1, changed: 0, trouble: "x"))
  }
}
