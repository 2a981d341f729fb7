import LinuxIO
import Testing

@testable import Daemon

/// What `sluice top` shows of a run, and what keys do.
struct TopTests {
  private static let small = TopView(size: .init(columns: 80, rows: 24), isUnicode: true)

  private static func flow(_ number: Int, sent: UInt64 = 0) -> FlowStatus {
    FlowStatus(
      id: "t0.\(number).1", protocol: number % 2 == 0 ? "tcp" : "udp", stage: "open",
      scope: .gateway, client: "192.0.2.\(number):40000", destination: "198.51.100.7:443",
      name: "www\(number).example", upstream: "socks5://proxy.example:1080", age: 61, idle: 0,
      sent: sent, received: 0)
  }

  private static func state(_ flows: [FlowStatus], omitted: Int = 0) -> TopState {
    var state = TopState()
    state.update(RunStatusTests.quiet, FlowList(flows: flows, omitted: omitted), after: 1)
    return state
  }

  @Test func wholeScreen() {
    var state = Self.state([Self.flow(2, sent: 1024), Self.flow(3)])
    var status = RunStatusTests.quiet
    for (sent, moved) in [(UInt64(1024), UInt64(3072)), (2048, 4096)] {
      status.bytes.sent += sent
      state.update(
        status, FlowList(flows: [Self.flow(2, sent: moved), Self.flow(3)], omitted: 2), after: 1)
    }
    let lines = Self.small.lines(state)
    #expect(lines.count == 24)
    #expect(
      lines[3...8].map(\.text) == [
        "sent 2.0 KiB/s        ▅█", "received 0 B/s        ▁▁",
        "DESTINATION             FROM                         AGE          NOW      BYTES",
        "www2.example:443        192.0.2.2:40000        1 min 1 s    1.0 KiB/s    4.0 KiB",
        "udp www3.example:443    192.0.2.3:40000        1 min 1 s        0 B/s        0 B", "",
      ])
    #expect(lines[5].emphasis == .title && lines[6].emphasis == .selected)
    #expect(
      lines[23].text == "and 2 more  q quit  up/down select  k end a flow  s sort (by bytes)")
  }

  @Test(arguments: [(80, 24), (200, 60), (20, 5), (1, 1), (40, 2), (0, 0)])
  func everySize(columns: Int, rows: Int) {
    let state = Self.state((0..<100).map { Self.flow($0) })
    for isUnicode in [true, false] {
      let lines = TopView(size: .init(columns: columns, rows: rows), isUnicode: isUnicode)
        .lines(state)
      #expect(lines.count == max(rows, 1))
      #expect(lines.allSatisfy { $0.text.count <= columns })
      #expect(isUnicode || lines.allSatisfy { $0.text.allSatisfy(\.isASCII) })
    }
  }

  @Test func beforeTheFirstLook() {
    let lines = Self.small.lines(TopState())
    #expect(lines.count == 24 && lines[5].text.hasPrefix("DESTINATION"))
  }

  /// Whatever others call themselves: a terminal obeys none of it.
  @Test func namesOfOthers() {
    let evil = "\u{1b}]0;x\u{7}\u{9b}2J\r\n\u{202e}é\u{1F600}"
    var flow = Self.flow(2)
    flow.name = evil
    flow.client = evil
    flow.destination = "\(evil):1"
    flow.program = .init(uid: 1, pid: 2, name: evil)
    flow.id = evil
    var status = RunStatusTests.quiet
    status.scope = evil
    status.upstreams[0].url = evil
    var state = TopState()
    state.update(status, FlowList(flows: [flow], omitted: 0), after: 1)
    _ = state.handle(.letter("k"), page: 10)
    for line in Self.small.lines(state) {
      #expect(
        line.text.unicodeScalars.allSatisfy {
          (" "..."~").contains($0) || "▁▂▃▄▅▆▇█".unicodeScalars.contains($0)
        })
    }
  }

  @Test func selectionStaysWithItsFlow() {
    var state = Self.state([Self.flow(1), Self.flow(2), Self.flow(3)])
    #expect(state.handle(.down, page: 10) == .none)
    #expect(state.selectedFlow?.id == "t0.2.1")
    state.update(
      RunStatusTests.quiet,
      FlowList(flows: [Self.flow(9), Self.flow(1), Self.flow(2)], omitted: 0),
      after: 1)
    #expect(state.selected == 2)
    // It has gone: what stands in its place is the selected one.
    state.update(
      RunStatusTests.quiet, FlowList(flows: [Self.flow(9), Self.flow(1)], omitted: 0), after: 1)
    #expect(state.selected == 1)
    state.update(RunStatusTests.quiet, FlowList(flows: [], omitted: 0), after: 1)
    #expect(state.selected == 0 && state.selectedFlow == nil)
    #expect(state.handle(.letter("k"), page: 10) == .none)
    #expect(state.question == nil)
  }

  @Test func selectionHasEnds() {
    var state = Self.state((0..<30).map { Self.flow($0) })
    for (key, place) in [
      (Key.up, 0), (.pageDown, 10), (.pageDown, 20), (.pageDown, 29), (.down, 29), (.pageUp, 19),
      (.up, 18),
    ] {
      _ = state.handle(key, page: 10)
      #expect(state.selected == place)
      let lines = TopView(size: .init(columns: 80, rows: 17), isUnicode: true).lines(state)
      #expect(lines.count { $0.emphasis == .selected } == 1)
    }
  }

  @Test func endingAsksFirst() {
    for (key, action) in [
      (Key.letter("y"), TopState.Action.kill("t0.1.1")), (.letter("n"), .none), (.escape, .none),
      (.letter("q"), .none), (.down, .none), (.interrupt, .quit),
    ] {
      var state = Self.state([Self.flow(1), Self.flow(2)])
      #expect(state.handle(.letter("k"), page: 10) == .none)
      #expect(Self.small.lines(state)[23].text.hasPrefix("end t0.1.1 to www1.example:443, 0 B?"))
      #expect(state.handle(key, page: 10) == action)
      #expect(key == .interrupt || state.question == nil)
    }
  }

  @Test func questionGoesWithItsFlow() {
    var state = Self.state([Self.flow(1), Self.flow(2)])
    _ = state.handle(.letter("k"), page: 10)
    state.update(RunStatusTests.quiet, FlowList(flows: [Self.flow(2)], omitted: 0), after: 1)
    #expect(state.question == nil && state.note == "t0.1.1 has ended by itself")
    // It is no answer to anything now.
    #expect(state.handle(.letter("y"), page: 10) == .none)
  }

  @Test func otherKeys() {
    var state = Self.state([Self.flow(1)])
    #expect(state.handle(.letter("s"), page: 10) == .list)
    #expect(state.order == .age)
    #expect(state.handle(.letter("s"), page: 10) == .list)
    #expect(state.order == .bytes)
    #expect(state.handle(.letter("x"), page: 10) == .none)
    #expect(state.handle(.letter("q"), page: 10) == .quit)
    #expect(state.handle(.interrupt, page: 10) == .quit)
  }

  @Test(arguments: [
    ("q", [Key.letter("q")]), ("\u{1b}[A\u{1b}OB", [.up, .down]), ("\u{1b}", [.escape]),
    ("\u{1b}[5~\u{1b}[6~", [.pageUp, .pageDown]), ("\u{3}", [.interrupt]),
    ("\u{1b}[1;5Ck", [.letter("k")]), ("\u{1b}[", []), ("\r\n\t\u{7f}", []),
    ("\u{1b}k", [.escape, .letter("k")]), ("ü", []), ("\u{1b}[15~y", [.letter("y")]),
  ])
  func keys(typed: String, keys: [Key]) {
    #expect(Key.keys(in: Array(typed.utf8)) == keys)
  }

  @Test func frame() {
    #expect(
      TopView.frame([
        .init(text: "a"), .init(text: "b", emphasis: .title), .init(text: "c", emphasis: .selected),
      ])
        == "\u{1b}[H\u{1b}[2Ka\r\n\u{1b}[2K\u{1b}[1mb\u{1b}[m\r\n\u{1b}[2K\u{1b}[7mc\u{1b}[m\u{1b}[J"
    )
  }
}
