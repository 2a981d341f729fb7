package import Configuration
internal import LinuxIO

/// `sluice flows`: the flows of a run of this host.
package struct FlowsCommand {
  /// Between two looks with `--follow`.
  private static let interval = Timeout.seconds(1)

  private let configuration: ControlConfiguration
  private let filters: [String]
  private let order: String
  private let isJSON: Bool

  /// - Parameters:
  ///   - filters: `KEY=VALUE`, all of which have to match.
  ///   - order: "age" or "bytes".
  package init(
    _ configuration: ControlConfiguration, filters: [String], order: String, isJSON: Bool
  ) throws(ConfigurationError) {
    self.configuration = configuration
    for filter in filters { _ = try FlowFilter(filter) }
    guard FlowOrder(rawValue: order) != nil else {
      throw ConfigurationError("--sort \(order): expected age or bytes")
    }
    (self.filters, self.order, self.isJSON) = (filters, order, isJSON)
  }

  /// What it prints: a table, or one line of JSON.
  package func run() throws(CommandFailure) -> String {
    var client = try ControlClient(configuration.path)
    return text(try list(&client))
  }

  /// Prints the same, and every second that again in JSON, or what has changed: `+` begins a flow that was
  /// not there before, `-` one that is gone. Blocks until the run has ended, which is a failure.
  package func follow(_ print: (String) -> Void) throws(CommandFailure) -> Never {
    var client = try ControlClient(configuration.path)
    var former = try list(&client)
    print(text(former))
    while true {
      pause(Self.interval)
      let present = try list(&client)
      if isJSON {
        print(text(present))
      } else {
        for line in Self.changes(from: former.flows, to: present.flows) { print(line) }
      }
      former = present
    }
  }

  /// A line for each flow that is gone, and then for each that is new.
  static func changes(from former: [FlowStatus], to present: [FlowStatus]) -> [String] {
    let (before, after) = (Set(former.map(\.id)), Set(present.map(\.id)))
    let gone = former.filter { !after.contains($0.id) }
    let new = present.filter { !before.contains($0.id) }
    return gone.map { "- \(line($0))" } + new.map { "+ \(line($0))" }
  }

  private static func line(_ flow: FlowStatus) -> String {
    let row = FlowTable.Row(flow)
    let way = row.upstream == "-" ? "" : " through \(row.upstream)"
    let program = row.program.isEmpty || row.program == "-" ? "" : " of \(row.program)"
    return
      "\(row.id) \(row.transport) \(row.client) to \(row.destination)\(way)\(program): \(row.age), "
      + "\(row.sent) sent, \(row.received) received"
  }

  private func list(_ client: inout ControlClient) throws(CommandFailure) -> FlowList {
    guard case .flows(let list) = try client.ask(.flows(filters: filters, order: order)) else {
      throw client.misunderstood
    }
    return list
  }

  private func text(_ list: FlowList) -> String {
    if isJSON { return String(decoding: list.line, as: UTF8.self) }
    let lines = FlowTable.lines(list.flows)
    return (lines + (list.omitted > 0 ? ["and \(list.omitted) more"] : [])).joined(separator: "\n")
  }
}
