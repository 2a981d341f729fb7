import LinuxIO
import Netfilter
import Testing

@testable import Daemon

struct FindingTests {
  private static let ok = Finding.ok(.marks, "free")
  private static let warning = Finding.warning(.conntrack, "a \"full\" table", advice: "more")
  private static let failure = Finding.failure(.upstream, "dead", advice: "start it")
  private static let privileges = Finding.failure(.privileges, "none", advice: "sudo")

  @Test(arguments: [
    ([], Daemon.ExitStatus.done), ([ok, warning], .done), ([warning, failure], .unavailable),
    ([privileges], .noPermission), ([failure, privileges, ok], .noPermission),
    ([.warning(.privileges, "some", advice: "sudo"), failure], .unavailable),
  ])
  func onlyFailuresCount(_ findings: [Finding], _ status: Daemon.ExitStatus) {
    #expect(Daemon.ExitStatus(findings) == status)
  }

  @Test(arguments: [
    (ok, "ok       marks: free"), (warning, "warning  conntrack: a \"full\" table -> more"),
    (failure, "failure  upstream: dead -> start it"),
  ])
  func textIsOneLine(_ finding: Finding, _ text: String) {
    #expect(finding.text == text)
  }

  @Test(arguments: [
    (ok, #"{"check":"marks","verdict":"ok","finding":"free"}"#),
    (
      warning,
      #"{"check":"conntrack","verdict":"warning","finding":"a \"full\" table","advice":"more"}"#
    ),
  ])
  func jsonIsOneObject(_ finding: Finding, _ json: String) {
    #expect(finding.json == json)
  }

  @Test(arguments: [(true, Finding.Verdict.failure), (false, .warning)])
  func whatIsNotNeededOnlyWarns(_ isNeeded: Bool, _ verdict: Finding.Verdict) {
    let finding = Finding.missing(.socket, isNeeded: isNeeded, "gone", advice: "get it")
    #expect(finding.verdict == verdict)
  }

  @Test func trialNamesTheKernelOption() {
    let feature = "the tproxy statement (CONFIG_NFT_TPROXY)"
    let failure = TrialFailure(NetfilterError.unsupported(feature: feature, .noEntry))
    #expect(failure.what.contains("CONFIG_NFT_TPROXY"))
  }
}
