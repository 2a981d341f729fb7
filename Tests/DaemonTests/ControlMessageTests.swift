import Addressing
import Configuration
import DataPlane
import TestSupport
import Testing

@testable import Daemon

/// What is said at the control socket, and what is not understood there.
struct ControlMessageTests {
  private static let requests: [(ControlRequest, String)] = [
    (.exec(version: 1), #"{"request":"exec","version":1}"#),
    (.end, #"{"request":"end"}"#),
    (.status, #"{"request":"status"}"#),
    (
      .flows(filters: ["uid=0"], order: "bytes"),
      #"{"filters":["uid=0"],"request":"flows","sort":"bytes"}"#
    ),
    (.kill(["t0.1.2"]), #"{"flows":["t0.1.2"],"request":"kill"}"#),
    (.reload, #"{"request":"reload"}"#),
    (.drain(timeout: nil), #"{"request":"drain"}"#),
    (.drain(timeout: 30), #"{"request":"drain","timeout":30}"#),
    (
      .serve(ConfinedTraffic(hasIPv6: false, includesDatagrams: false), audit: false),
      #"{"audit":false,"datagrams":false,"ipv6":false,"request":"serve"}"#
    ),
    (
      .serve(
        ConfinedTraffic(
          hasIPv6: true, includesDatagrams: true, dns: .tcp,
          resolver: SocketAddress("[2001:db8::1]:5353")), audit: true),
      """
      {"audit":true,"datagrams":true,"dns":"tcp","ipv6":true,"request":"serve",\
      "resolver":"[2001:db8::1]:5353"}
      """
    ),
  ]

  /// As it is read there: what stands for the password is taken for one.
  private static let hidden = (try? UpstreamChain("socks5://me:***@127.0.0.1:1080")) ?? .embedded

  private static let socket = (try? UpstreamChain("socks5:///run/a%20b")) ?? .embedded

  private static let answers: [(ControlAnswer, String)] = [
    (.serving, #"{"serving":true}"#),
    (.draining, #"{"draining":true}"#),
    (.flows(FlowList(flows: [], omitted: 0)), #"{"flows":[],"omitted":0}"#),
    (
      .flows(FlowList(flows: [FlowTests.opening], omitted: 3)),
      #"{"flows":[\#(FlowTests.openingLine)],"omitted":3}"#
    ),
    (.killed(["t0.1.2"]), #"{"killed":["t0.1.2"]}"#), (.killed([]), #"{"killed":[]}"#),
    (
      .reload(ReloadOutcome(adopted: ["quic"], restart: ["port", "tcp"])),
      #"{"reload":{"adopted":["quic"],"restart":["port","tcp"]}}"#
    ),
    (
      .reload(ReloadOutcome(problem: "a.yaml:1:1: no")),
      #"{"reload":{"adopted":[],"problem":"a.yaml:1:1: no","restart":[]}}"#
    ),
    (
      .service(
        ServiceDescription(
          upstreams: UpstreamSelection(socket), datagrams: .relays, carriesIPv6: true)),
      #"{"datagrams":"relayed","ipv6":true,"upstream":"socks5:///run/a%20b"}"#
    ),
    (
      .audit(
        AuditReport(
          [
            Audit.Entry(
              destination: .init(.tcp, SocketAddress(.v4(.loopback), 443)),
              traffic: .init(flows: 1, failed: 2, sent: 3, received: .max), name: "www.example"),
            Audit.Entry(
              destination: .init(.udp, SocketAddress(.v6(.loopback), 53)), traffic: .init(),
              name: nil),
          ], omitted: .init(flows: 1))),
      """
      {"destinations":[{"address":"127.0.0.1:443","name":"www.example",\
      "traffic":{"failed":2,"flows":1,"received":18446744073709551615,"sent":3},"transport":"tcp"},\
      {"address":"[::1]:53","traffic":{"failed":0,"flows":0,"received":0,"sent":0},\
      "transport":"udp"}],"omitted":{"failed":0,"flows":1,"received":0,"sent":0}}
      """
    ),
    (
      .service(
        ServiceDescription(
          upstreams: UpstreamSelection([socket, hidden], .hash), datagrams: .relays,
          carriesIPv6: true)),
      """
      {"balance":"hash","datagrams":"relayed","ipv6":true,\
      "others":["socks5://me:***@127.0.0.1:1080"],"upstream":"socks5:///run/a%20b"}
      """
    ),
    (.status(RunStatusTests.quiet), #"{"status":\#(RunStatusTests.quietLine)}"#),
    (.error("a \"word\" / two\n"), #"{"error":"a \"word\" / two\n"}"#),
    (
      .service(
        ServiceDescription(
          upstreams: UpstreamSelection(.embedded), datagrams: .unknown, carriesIPv6: true)),
      #"{"datagrams":"unknown","ipv6":true,"upstream":"embedded"}"#
    ),
    (
      .service(
        ServiceDescription(
          upstreams: UpstreamSelection(hidden), datagrams: .refuses, carriesIPv6: false)),
      #"{"datagrams":"refused","ipv6":false,"upstream":"socks5://me:***@127.0.0.1:1080"}"#
    ),
  ]

  @Test(arguments: requests.indices)
  func requestIsALine(index: Int) {
    let (request, text) = Self.requests[index]
    #expect(String(decoding: request.line, as: UTF8.self) == text)
    #expect(ControlRequest(line: Array(text.utf8)) == request)
  }

  @Test(arguments: answers.indices)
  func answerIsALine(index: Int) {
    let (answer, text) = Self.answers[index]
    #expect(String(decoding: answer.line, as: UTF8.self) == text)
    #expect(ControlAnswer(line: Array(text.utf8)) == answer)
  }

  @Test func whatIsNotKnownIsIgnored() {
    let text = #" { "version" : 1, "later" : [{}], "request" : "exec", "resolver" : null } "#
    #expect(ControlRequest(line: Array(text.utf8)) == .exec(version: 1))
  }

  @Test(arguments: [
    "", " ", "null", "1", "\"exec\"", "[]", "{}", "{", "}", "{\"request\"", "\u{0}",
    #"{"request":null,"version":1}"#, #"{"request":"EXEC","version":1}"#,
    #"{"request":"exec"}"#, #"{"request":"exec","version":null}"#,
    #"{"request":"exec","version":"1"}"#, #"{"request":"exec","version":1.5}"#,
    #"{"request":"exec","version":9223372036854775808}"#,
    #"{"request":"exec","version":1e400}"#, #"{"request":"exec","version":1} x"#,
    #"{"request":"drain","timeout":-1}"#, #"{"request":"drain","timeout":4294967296}"#,
    #"{"request":"drain","timeout":"1"}"#, #"{"request":"kill"}"#,
    #"{"request":"kill","flows":"t0.1.2"}"#, #"{"request":"flows","filters":"uid=0"}"#,
    #"{"request":"serve"}"#,
    #"{"request":"serve","ipv6":true}"#,
    #"{"request":"serve","ipv6":true,"datagrams":true,"audit":"yes"}"#,
    #"{"request":"serve","ipv6":1,"datagrams":true}"#,
    #"{"request":"serve","ipv6":true,"datagrams":true,"dns":"dot"}"#,
    #"{"request":"serve","ipv6":true,"datagrams":true,"resolver":"9.9.9.9"}"#,
    #"{"request":"serve","ipv6":true,"datagrams":true,"resolver":"localhost:53"}"#,
    #"{"request":"serve","ipv6":true,"datagrams":true,"resolver":53}"#,
  ])
  func noRequest(text: String) {
    #expect(ControlRequest(line: Array(text.utf8)) == nil)
  }

  @Test(arguments: [
    "", "null", "{}", #"{"serving":false}"#, #"{"draining":false}"#, #"{"error":1}"#,
    #"{"upstream":"embedded"}"#,
    #"{"status":{}}"#, #"{"status":true}"#, #"{"destinations":[]}"#,
    #"{"reload":true}"#, #"{"flows":[]}"#, #"{"flows":[{}],"omitted":0}"#, #"{"killed":true}"#,
    #"{"reload":{"adopted":[]}}"#,
    #"{"destinations":[{}],"omitted":{}}"#,
    #"{"datagrams":"maybe","ipv6":true,"upstream":"embedded"}"#,
    #"{"datagrams":"unknown","ipv6":true,"upstream":"ftp://here"}"#,
    #"{"datagrams":"unknown","ipv6":true,"upstream":"socks5://a","others":["socks5://b"]}"#,
    #"{"datagrams":"unknown","ipv6":true,"upstream":"socks5://a","others":["b"],"balance":"hash"}"#,
  ])
  func noAnswer(text: String) {
    #expect(ControlAnswer(line: Array(text.utf8)) == nil)
  }

  @Test func depthHasNoEnd() {
    for opening in ["[", "{\"request\":", "[{\"a\":"] {
      let line = Array(String(repeating: opening, count: 60_000 / opening.count).utf8)
      #expect(ControlRequest(line: line) == nil)
      #expect(ControlAnswer(line: line) == nil)
    }
  }

  @Test func bytesThatAreNoText() {
    #expect(ControlRequest(line: Array("{\"request\":\"".utf8) + [0xFF, 0xC0] + "\"}".utf8) == nil)
    #expect(ControlRequest(line: [0xFE, 0xFF, 0, 0x7B]) == nil)
  }

  /// What is understood of a damaged line can be said again.
  @Test(arguments: 0..<4)
  func damage(seed: UInt64) {
    var generator = SplitMix(seed: seed)
    let lines = Self.requests.map(\.0.line) + Self.answers.map(\.0.line)
    for _ in 0..<5_000 {
      guard let line = lines.randomElement(using: &generator) else { return }
      let damaged = mutated(line, using: &generator) { generator in
        Bool.random(using: &generator)
          ? UInt8.random(in: 0...255, using: &generator)
          : Array("\"{}[]:,\\u0-.e".utf8).randomElement(using: &generator) ?? 0
      }
      if let request = ControlRequest(line: damaged) {
        #expect(ControlRequest(line: request.line) == request)
      }
      if let answer = ControlAnswer(line: damaged) {
        // A password that somebody has put there is not repeated.
        #expect(ControlAnswer(line: answer.line)?.line == answer.line)
      }
    }
  }
}

/// How many programs a run carries, and with how many descriptors.
struct NamespaceShareTests {
  @Test(arguments: [
    (0, 256, 0), (1023, 256, 0), (1024, 256, 1), (4096, 256, 4), (65536, 256, 64),
    (524_288, 2048, 64), (1_048_576, 4096, 64), (1 << 30, 1 << 22, 64),
  ])
  func isAQuarterAtMost(limit: Int, ofEach: Int, programs: Int) {
    let share = NamespaceService.Share(of: limit)
    #expect(share.ofEachProgram == ofEach)
    #expect(share.programs == programs)
    #expect(share.total <= limit / 4)
  }
}
