package import Configuration
internal import Glibc
internal import RedirectPolicy

/// `sluice doctor`: tries everything that `run` with the same settings would need, and changes nothing.
package struct DoctorCommand {
  private let configuration: Configuration
  private let isJSON: Bool

  /// - Parameter isJSON: prints objects instead of sentences.
  package init(_ configuration: Configuration, isJSON: Bool) {
    self.configuration = configuration
    self.isJSON = isJSON
  }

  /// Prints each finding on standard output as soon as it is made. Blocks for seconds where something
  /// does not answer.
  package func run() throws(CommandFailure) -> ExitStatus {
    // The usual numbers, so that whoever uses them, too, is named.
    let policy = try Scope(configuration, upstreams: [], in: Surroundings(rules: [])).policy
    var findings: [Finding] = []
    func report(_ more: [Finding]) {
      for finding in more { show(finding) }
      findings += more
    }
    let privileges = Privileges()
    report([privileges.finding])
    if privileges.canTry { report(Laboratory.findings(policy)) }
    report(HostChecks(policy, privileges).findings())
    let upstreams = configuration.upstreams
    for member in upstreams.members {
      report(
        UpstreamChecks(member, isOneOfSeveral: upstreams.isPlural, policy, privileges).findings())
    }
    return ExitStatus(findings)
  }

  private func show(_ finding: Finding) {
    var line = Array(((isJSON ? finding.json : finding.text) + "\n").utf8)
    _ = write(STDOUT_FILENO, &line, line.count)
  }
}
