import Configuration
import Testing

@testable import Daemon

/// How flows are chosen, ordered and shown.
struct FlowTests {
  /// One of which little is known.
  static let opening = FlowStatus(
    id: "t0.1.2", protocol: "tcp", stage: "opening", age: 0.25, sent: 0, received: 0)
  static let openingLine =
    #"{"age":0.25,"id":"t0.1.2","protocol":"tcp","received":0,"sent":0,"stage":"opening"}"#

  /// One of which everything is.
  static let known = FlowStatus(
    id: "t1.20.3", protocol: "tcp", stage: "open", scope: .machine, client: "192.0.2.1:40000",
    program: .init(uid: 1000, pid: 7, name: "curl"), destination: "[2001:db8::1]:443",
    name: "www.Example.com", upstream: "socks5://me:***@proxy.example:1080", rule: "mail",
    age: 182.4, idle: 1,
    setup: 0.05, sent: 1000, received: 2048)

  @Test(arguments: [
    ("protocol=tcp", true), ("protocol=udp", false), ("stage=open", true), ("stage=opening", false),
    ("scope=machine", true), ("scope=gateway", false), ("client=192.0.2.1", true),
    ("client=192.0.2.0/24", true), ("client=192.0.2.1:40000", true), ("client=192.0.2.1:4", false),
    ("client=2001:db8::1", false), ("destination=2001:db8::/32", true),
    ("destination=[2001:db8::1]:443", true), ("destination=[2001:db8::1]:80", false),
    ("port=443", true), ("port=40000", false), ("name=example.com", true),
    ("name=www.EXAMPLE.com", true), ("name=ample.com", false), ("name=com", true),
    ("upstream=socks5://me:***@proxy.example:1080", true), ("upstream=proxy.example", false),
    ("rule=mail", true), ("rule=rule 1", false), ("program=curl", true), ("program=cur", false),
    ("pid=7", true), ("pid=8", false),
    ("uid=1000", true), ("uid=0", false),
  ])
  func filter(text: String, isMatch: Bool) throws {
    let filter = try FlowFilter(text)
    #expect(filter.matches(Self.known) == isMatch)
    // What is not known matches nothing.
    let isKnown = filter.key == .protocol || filter.key == .stage
    #expect(isKnown || !filter.matches(Self.opening))
  }

  @Test(arguments: [
    "", "=", "port", "=443", "port=", "port=65536", "port=-1", "uid=me", "name=", "client=",
    "client=192.0.2.1/24", "destination=www.example:443", "PORT=1", "colour=red",
  ])
  func noFilter(text: String) {
    #expect(throws: ConfigurationError.self) { try FlowFilter(text) }
  }

  @Test func everyKeyIsInTheComplaint() throws {
    let error = try #require(throws: ConfigurationError.self) { try FlowFilter("colour=red") }
    for key in FlowFilter.Key.allCases { #expect("\(error)".contains(key.rawValue)) }
  }

  @Test func order() {
    let flows = [Self.opening, Self.known]
    #expect(flows.sorted { FlowOrder.age.precedes($0, $1) }.map(\.id) == ["t1.20.3", "t0.1.2"])
    #expect(flows.sorted { FlowOrder.bytes.precedes($0, $1) }.map(\.id) == ["t1.20.3", "t0.1.2"])
  }

  @Test func table() {
    #expect(
      FlowTable.lines([Self.opening, Self.known]) == [
        "ID            CLIENT           DESTINATION          UPSTREAM                            "
          + "AGE        SENT    RECEIVED  PROGRAM",
        "t0.1.2   tcp  -                -                    -                                   "
          + "0.2 s      0 B     0 B       -",
        "t1.20.3  tcp  192.0.2.1:40000  www.Example.com:443  socks5://me:***@proxy.example:1080  "
          + "3 min 2 s  1000 B  2.0 KiB   curl (7)",
      ])
  }

  @Test func changes() {
    var later = Self.known
    later.sent = 5000
    #expect(FlowsCommand.changes(from: [Self.known], to: [later]) == [])
    #expect(
      FlowsCommand.changes(from: [Self.known], to: [Self.opening]) == [
        "- t1.20.3 tcp 192.0.2.1:40000 to www.Example.com:443 through "
          + "socks5://me:***@proxy.example:1080 of curl (7): 3 min 2 s, 1000 B sent, 2.0 KiB received",
        "+ t0.1.2 tcp - to -: 0.2 s, 0 B sent, 0 B received",
      ])
  }

  @Test(arguments: [
    ("curl", "curl", "curl"), ("a\u{1b}[2Jb\n", "a?[2Jb?", "a?[2Jb?"),
    ("\u{7f}\u{9b}31m\u{85}", "??31m?", "??31m?"), ("müller", "müller", "m?ller"),
    ("\u{202e}cod\u{2028}", "?cod?", "?cod?"), ("\u{0}\r\u{8}", "???", "???"),
  ])
  func textOfOthers(text: String, harmless: String, columns: String) {
    #expect(text.withoutControls == harmless)
    #expect(text.inColumns == columns)
  }
}
