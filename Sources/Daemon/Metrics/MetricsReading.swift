internal import DataPlane
internal import RedirectPolicy

/// What metrics are made of, as of about one moment. Nothing in it is secret.
struct MetricsReading {
  /// Of what a run has, and the server alone has not.
  struct Capture {
    /// Those of the settings.
    var upstreams: [RunStatus.Upstream]
    /// The number of each, which it keeps as long as it is one of them: its place in the snapshot.
    var members: [Int]
    var rules: RuleRecord.State
  }

  var version: String
  /// Seconds since 1970.
  var start: Int
  var workers: Int
  var snapshot: Snapshot
  var limits: [RunStatus.Limit]
  /// Nil where nothing is captured.
  var capture: Capture?

  var families: [MetricFamily] {
    let captured = capture.map { upstreamFamilies($0) + queries + ruleFamilies($0.rules) }
    return process + streams + datagrams + (captured ?? []) + bounds
  }
}

extension MetricsReading {
  /// - Parameter limits: those that the data plane does not know.
  init(
    of dataPlane: DataPlane, since start: Int, _ limits: [RunStatus.Limit], _ capture: Capture?
  ) {
    let snapshot = dataPlane.snapshot()
    self.init(
      version: Release.version, start: start, workers: dataPlane.workerCount, snapshot: snapshot,
      limits: dataPlane.limits(snapshot) + limits, capture: capture)
  }
}

// MARK: Families

extension MetricsReading {
  private typealias Sample = MetricFamily.Sample
  private typealias Label = MetricFamily.Label

  private func counter(_ name: String, _ help: String, _ counter: Counter) -> MetricFamily {
    MetricFamily(name + "_total", .counter, help, snapshot[counter])
  }

  /// Of what clients send, and get.
  private func directions(
    _ name: String, _ help: String, sent: Counter, received: Counter
  ) -> MetricFamily {
    MetricFamily(
      name + "_total", .counter, help,
      [
        Sample(snapshot[sent], Label("direction", "sent")),
        Sample(snapshot[received], Label("direction", "received")),
      ])
  }

  private var process: [MetricFamily] {
    [
      MetricFamily(
        "build_info", .gauge, "What this is a build of; always 1.",
        [Sample(1, Label("version", version))]),
      MetricFamily(
        "start_time_seconds", .gauge, "When the run began, in seconds since 1970.", start),
      MetricFamily("workers", .gauge, "Threads that relay.", workers),
      counter("worker_turns", "Rounds of the workers' loops.", .turns),
    ]
  }

  private var streams: [MetricFamily] {
    [
      MetricFamily("tcp_sessions", .gauge, "TCP flows that are open.", snapshot.liveSessions),
      counter(
        "tcp_sessions_opened",
        "TCP flows that were captured, or that clients of the server have begun.", .sessionsOpened),
      counter(
        "tcp_sessions_failed",
        "TCP flows that failed, other than by a peer's reset or a rule of the user's.",
        .sessionsFailed),
      MetricFamily(
        "tcp_failures_total", .counter,
        "How TCP flows ended early, by the reason; reply_ is what the upstream replied.",
        Failure.allCases.map { Sample(snapshot[$0], Label("reason", $0.name)) }),
      directions(
        "tcp_bytes", "Bytes of TCP flows from clients (sent) and to them.", sent: .bytesUpstream,
        received: .bytesDownstream),
      counter("accept_pauses", "How often accepting had to wait for descriptors.", .acceptPauses),
    ]
  }

  private func upstreamFamilies(_ capture: Capture) -> [MetricFamily] {
    /// One for each upstream of which there is something to say.
    func gauge(
      _ name: String, _ help: String, _ value: (RunStatus.Upstream) -> Bool?
    ) -> MetricFamily {
      MetricFamily(
        name, .gauge, help,
        zip(capture.members, capture.upstreams).compactMap { member, upstream in
          value(upstream).map { Sample(($0 ? 1 : 0).description, labels(member, upstream)) }
        })
    }
    return [
      gauge(
        "upstream_up", "Whether an upstream lives; none where nobody watches it.",
        { $0.health == .unknown ? nil : $0.health == .up }),
      gauge("upstream_ipv6", "Whether an upstream takes IPv6, as far as is known.", \.ipv6),
      gauge(
        "upstream_udp", "Whether an upstream relays datagrams; none while that is unknown.",
        { $0.datagrams == "unknown" ? nil : $0.datagrams == "relayed" }),
      gauge(
        "upstream_pipelined", "Whether an upstream takes a handshake in one write.", \.pipelined),
      MetricFamily(
        "upstream_probe_duration_seconds", .gauge,
        "How long it took to ask an upstream last whether it lives; none where nobody has.",
        zip(capture.members, capture.upstreams).compactMap { member, upstream in
          upstream.probe.map {
            Sample(Self.seconds($0.milliseconds * 1000), labels(member, upstream))
          }
        }),
      MetricFamily(
        "handshake_duration_seconds", .histogram,
        "How long the phases of TCP flows through an upstream took that ended well.",
        durations(capture)),
      counter(
        "handshakes_retried", "Handshakes begun anew with another upstream.", .handshakesRetried),
      counter(
        "pool_connections_used", "Connections kept ready that carried a flow.", .pooledUsed),
      counter(
        "pool_connections_dead", "Connections kept ready that a flow found dead.", .pooledDead),
    ]
  }

  private func labels(_ member: Int, _ upstream: RunStatus.Upstream) -> [MetricFamily.Label] {
    [Label("upstream", upstream.url), Label("member", "\(member)")]
  }

  private func durations(_ capture: Capture) -> [MetricFamily.Sample] {
    zip(capture.members, capture.upstreams).flatMap { member, upstream in
      FlowPhase.allCases.flatMap { phase in
        // One that has come since was not counted yet.
        guard snapshot.phases.indices.contains(member) else { return [Sample]() }
        return Self.samples(
          snapshot.phases[member][phase.rawValue],
          labels(member, upstream) + [Label("phase", phase.name)])
      }
    }
  }

  private static func samples(
    _ histogram: PhaseHistogram, _ labels: [MetricFamily.Label]
  ) -> [MetricFamily.Sample] {
    let bounds = PhaseHistogram.bounds.map(seconds) + ["+Inf"]
    var total: UInt64 = 0
    var samples = zip(bounds, histogram.counts).map { bound, count in
      total += count
      return Sample("\(total)", labels + [Label("le", bound)], suffix: "_bucket")
    }
    samples.append(Sample(seconds(histogram.microseconds), labels, suffix: "_sum"))
    samples.append(Sample("\(total)", labels, suffix: "_count"))
    return samples
  }

  private static func seconds(_ microseconds: some BinaryInteger) -> String {
    "\(Double(microseconds) / 1_000_000)"
  }

  private var datagrams: [MetricFamily] {
    [
      MetricFamily(
        "udp_associations", .gauge, "Senders of datagrams that have an association.",
        snapshot.liveAssociations),
      counter(
        "udp_associations_opened", "Associations made for senders of datagrams.",
        .associationsOpened),
      directions(
        "udp_datagrams", "Datagrams from clients (sent) and to them.", sent: .datagramsUpstream,
        received: .datagramsDownstream),
      directions(
        "udp_bytes", "Bytes of datagrams from clients (sent) and to them, without headers.",
        sent: .datagramBytesUpstream, received: .datagramBytesDownstream),
      MetricFamily(
        "udp_drops_total", .counter, "Datagrams that went no further, by the reason.",
        DatagramDrop.allCases.map { Sample(snapshot[$0], Label("reason", $0.name)) }),
    ]
  }

  private var queries: [MetricFamily] {
    [
      counter("dns_queries", "DNS queries that went on by TCP.", .queriesCarried),
      counter("dns_queries_answered", "Of those, answered ones.", .queriesAnswered),
      counter(
        "dns_queries_truncated", "Of the answered ones, those whose answers were cut.",
        .queriesTruncated),
      counter("dns_queries_failed", "Of all, those that failed.", .queriesFailed),
    ]
  }

  private func ruleFamilies(_ rules: RuleRecord.State) -> [MetricFamily] {
    let phase = RunStatus.Rules(rules).phase
    return [
      MetricFamily(
        "rules_phase", .gauge, "1 for how the rules are, 0 for how they could be.",
        RunStatus.Rules.Phase.allCases.map {
          Sample($0 == phase ? 1 : 0, Label("phase", $0.rawValue))
        }),
      MetricFamily(
        "rules_restored_total", .counter,
        "How often something of the rules was put back that others had taken away.", rules.restored),
      MetricFamily(
        "rules_trouble", .gauge, "Whether something could not be put back, while that lasts.",
        rules.trouble == nil ? 0 : 1),
      MetricFamily(
        "rules_settings_changed_total", .counter, "Kernel settings that others have changed.",
        rules.changedSettings),
      MetricFamily(
        "rules_foreign_total", .counter,
        "How often rules of others were found to redirect Sluice's own connections.",
        rules.foreign),
    ]
  }

  private var bounds: [MetricFamily] {
    func family(_ name: String, _ help: String, _ value: (RunStatus.Limit) -> Int) -> MetricFamily {
      MetricFamily(
        name, .gauge, help,
        limits.map { limit in
          let bound = limit.name.lowercased().split(separator: " ").joined(separator: "_")
          return Sample(value(limit), Label("bound", bound))
        })
    }
    return [
      family("bound_limit", "How many there can be of what there is a bounded number of.", \.limit),
      family("bound_used", "How many of those there are.", \.used),
    ]
  }
}
