import RedirectPolicy
import SOCKS
import Testing

@testable import Daemon
@testable import DataPlane

/// What Prometheus reads of a run.
struct MetricsReadingTests {
  private static let upstream = RunStatus.Upstream(
    url: "socks5://me:***@192.0.2.1:1080", health: .up, ipv6: true, datagrams: "refused",
    pipelined: false)

  private func reading(_ change: (inout MetricsReading) -> Void = { _ in }) -> MetricsReading {
    var reading = MetricsReading(
      version: "1.2", start: 1_700_000_000, workers: 2, snapshot: Snapshot(),
      limits: [.init(name: "descriptors", used: 3, limit: 900)],
      capture: .init(
        upstreams: [Self.upstream], members: [0],
        rules: .init(scope: "TCP", phase: .capturing)))
    reading.snapshot.phases = [
      .init(repeating: PhaseHistogram(), count: FlowPhase.allCases.count)
    ]
    change(&reading)
    return reading
  }

  private func lines(_ reading: MetricsReading) -> [String] {
    MetricFamily.text(reading.families).split(separator: "\n").map(String.init)
  }

  @Test(arguments: [
    "sluice_build_info{version=\"1.2\"} 1", "sluice_start_time_seconds 1700000000",
    "sluice_workers 2", "sluice_tcp_sessions 2", "sluice_tcp_sessions_opened_total 5",
    "sluice_tcp_bytes_total{direction=\"sent\"} 1000",
    "sluice_tcp_bytes_total{direction=\"received\"} 18446744073709551615",
    "sluice_tcp_failures_total{reason=\"reply_host_unreachable\"} 7",
    "sluice_tcp_failures_total{reason=\"idle_timeout\"} 0",
    "sluice_udp_drops_total{reason=\"queue_full\"} 9",
    "sluice_upstream_up{upstream=\"socks5://me:***@192.0.2.1:1080\",member=\"0\"} 1",
    "sluice_upstream_udp{upstream=\"socks5://me:***@192.0.2.1:1080\",member=\"0\"} 0",
    "sluice_upstream_probe_duration_seconds{upstream=\"socks5://me:***@192.0.2.1:1080\",member=\"0\"} 0.012",
    "sluice_rules_phase{phase=\"capturing\"} 1", "sluice_rules_phase{phase=\"absent\"} 0",
    "sluice_rules_restored_total 4", "sluice_rules_foreign_total 1", "sluice_rules_trouble 0",
    "sluice_bound_limit{bound=\"descriptors\"} 900", "sluice_bound_used{bound=\"descriptors\"} 3",
    "sluice_bound_used{bound=\"waiting_gssapi_steps\"} 1",
  ])
  func sample(_ line: String) {
    let reading = reading { reading in
      reading.snapshot[.sessionsOpened] = 5
      reading.snapshot[.sessionsClosed] = 3
      reading.snapshot[.bytesUpstream] = 1000
      reading.snapshot[.bytesDownstream] = .max
      reading.snapshot[Failure.replyHostUnreachable] = 7
      reading.snapshot[DatagramDrop.queueFull] = 9
      reading.capture?.upstreams[0].probe = .init(age: 3, milliseconds: 12, failure: nil)
      reading.capture?.rules.restored = 4
      reading.capture?.rules.foreign = 1
      reading.limits.append(.init(name: "waiting GSSAPI steps", used: 1, limit: 1024))
    }
    #expect(lines(reading).filter { $0 == line }.count == 1)
  }

  @Test func serverAloneTellsNothingOfCaptures() {
    func names(_ reading: MetricsReading) -> Set<String> { Set(reading.families.map(\.name)) }
    let others = names(reading()).subtracting(names(reading { $0.capture = nil }))
    #expect(names(reading { $0.capture = nil }).contains("sluice_tcp_sessions"))
    #expect(others.contains("sluice_upstream_up") && others.contains("sluice_rules_phase"))
    #expect(
      others.allSatisfy { name in
        ["upstream_", "handshake", "pool_", "dns_", "rules_"].contains {
          name.hasPrefix("sluice_" + $0)
        }
      })
  }

  @Test func phasesAreHistograms() {
    let reading = reading { reading in
      for microseconds in [250, 251, 40_000_000] as [UInt64] {
        reading.snapshot.phases[0][FlowPhase.firstByte.rawValue].add(microseconds)
      }
    }
    let labels =
      "{upstream=\"socks5://me:***@192.0.2.1:1080\",member=\"0\",phase=\"first_byte\""
    let name = "sluice_handshake_duration_seconds"
    let found = lines(reading).filter { $0.contains("phase=\"first_byte\"") }
    #expect(found.count == PhaseHistogram.bounds.count + 3)
    #expect(found.first == "\(name)_bucket\(labels),le=\"0.00025\"} 1")
    #expect(found[1] == "\(name)_bucket\(labels),le=\"0.0005\"} 2")
    #expect(found[found.count - 4] == "\(name)_bucket\(labels),le=\"30.0\"} 2")
    #expect(
      found.suffix(3) == [
        "\(name)_bucket\(labels),le=\"+Inf\"} 3", "\(name)_sum\(labels)} 40.000501",
        "\(name)_count\(labels)} 3",
      ])
  }

  /// Nothing is said of what nobody knows, not even a head.
  @Test func unknownIsLeftOut() {
    let reading = reading { reading in
      reading.capture?.upstreams[0].health = .unknown
      reading.capture?.upstreams[0].datagrams = "unknown"
    }
    let text = MetricFamily.text(reading.families)
    #expect(!text.contains("sluice_upstream_up") && !text.contains("sluice_upstream_udp"))
    #expect(text.contains("sluice_upstream_ipv6"))
  }

  /// Two members may have one URL.
  @Test func membersAreToldApart() {
    let reading = reading { reading in
      reading.capture?.upstreams.append(Self.upstream)
      reading.capture?.members.append(1)
      reading.snapshot.phases.append(reading.snapshot.phases[0])
    }
    let samples = lines(reading).filter { !$0.hasPrefix("#") }
      .map { $0[..<($0.lastIndex(of: " ") ?? $0.endIndex)] }
    #expect(Set(samples).count == samples.count)
  }

  @Test func textHasEveryFamilyOnceWithItsKind() {
    let families = reading().families
    #expect(Set(families.map(\.name)).count == families.count)
    for family in families {
      #expect(family.name.hasSuffix("_total") == (family.kind == .counter), "\(family.name)")
      #expect(family.help.hasSuffix("."), "\(family.name)")
    }
  }

  @Test func labelsAndHelpAreEscaped() {
    let family = MetricFamily(
      "x", .gauge, "a \"b\"\n\\", [.init(1, .init("l", "a \"b\"\n\\")), .init(2)])
    let text = #"""
      # HELP sluice_x a "b"\n\\
      # TYPE sluice_x gauge
      sluice_x{l="a \"b\"\n\\"} 1
      sluice_x 2

      """#
    #expect(MetricFamily.text([family]) == text)
    #expect(MetricFamily.text([MetricFamily("x", .gauge, "", [])]).isEmpty)
  }
}
