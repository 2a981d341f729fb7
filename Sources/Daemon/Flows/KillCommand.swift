package import Configuration
internal import DataPlane

/// `sluice kill`: ends flows of a run of this host, as if both sides had reset them.
package struct KillCommand {
  /// Told in one request, so that it is a line.
  private static let maximumFlows = 1000

  private let configuration: ControlConfiguration
  private let flows: [String]
  private let filters: [String]

  /// - Parameters:
  ///   - flows: their identifiers, as `sluice flows` tells them.
  ///   - filters: `KEY=VALUE`, all of which have to match, in place of them.
  package init(
    _ configuration: ControlConfiguration, flows: [String], filters: [String]
  ) throws(ConfigurationError) {
    guard flows.isEmpty != filters.isEmpty else {
      throw ConfigurationError(
        "kill: give the IDs of flows (sluice flows), or a --filter KEY=VALUE")
    }
    for flow in flows where FlowIdentifier(flow) == nil {
      throw ConfigurationError("\(flow): expected the ID of a flow, such as t0.17.3 (sluice flows)")
    }
    for filter in filters { _ = try FlowFilter(filter) }
    (self.configuration, self.flows, self.filters) = (configuration, flows, filters)
  }

  /// What it prints: how many it has ended. That one of those that were named is none is a failure, and the
  /// others are ended nevertheless.
  package func run() throws(CommandFailure) -> String {
    var client = try ControlClient(configuration.path)
    var wanted = flows
    if wanted.isEmpty {
      let request = ControlRequest.flows(filters: filters, order: FlowOrder.age.rawValue)
      guard case .flows(let list) = try client.ask(request) else { throw client.misunderstood }
      wanted = list.flows.map(\.id)
    }
    let ended = Set(try Self.end(wanted, &client))
    let missing = flows.filter { !ended.contains($0) }
    guard missing.isEmpty else {
      throw CommandFailure(
        "no such flow: \(missing.joined(separator: ", ")) (ended: \(ended.count))", .unavailable)
    }
    return "ended: \(ended.count)"
  }

  /// - Returns: those that were still there.
  static func end(
    _ flows: [String], _ client: inout ControlClient
  ) throws(CommandFailure) -> [String] {
    var ended: [String] = []
    var rest = flows[...]
    while !rest.isEmpty {
      let part = Array(rest.prefix(maximumFlows))
      rest = rest.dropFirst(maximumFlows)
      guard case .killed(let flows) = try client.ask(.kill(part)) else {
        throw client.misunderstood
      }
      ended += flows
    }
    return ended
  }
}
