internal import LinuxIO
internal import Logging
internal import Netfilter
internal import RedirectPolicy

/// Keeps the rules and routes of a run in the kernel: installs them, changes them as the run goes on,
/// and puts back what others take away.
final class RuleKeeper {
  private(set) var policy: RedirectPolicy
  /// What others may ask, from any thread.
  let record = RuleRecord()
  private let installer: RuleInstaller
  private var settings: SettingWatch
  private let log: Logger
  /// Whether `policy` is in place.
  private var isInstalled = false
  /// The last trouble told, so that one that lasts is told once.
  private var toldTrouble: String?

  /// Changes nothing yet.
  /// - Parameter owner: what the rules of the run before belong to; nil if there are none.
  init(
    _ policy: RedirectPolicy, continuing owner: consuming Descriptor?, log: Logger
  ) throws(NetfilterError) {
    self.policy = policy
    self.log = log
    installer = try RuleInstaller(ownership: .process, continuing: owner)
    settings = SettingWatch(interfaces: [], forwards: false)
  }

  /// For registration with `Epoll`: readable when somebody has changed something.
  var descriptors: [Int32] { installer.watch.descriptors }

  /// What the rules belong to, for who keeps them between two runs.
  var owner: Int32 { installer.descriptor }

  /// From here on nothing leaves directly, if that is what the policy wants.
  func close() throws(NetfilterError) { try installer.installGuard(policy) }

  /// Changes what `install` will put in place.
  func prepare(_ update: (inout RedirectPolicy) -> Void) { update(&policy) }

  /// Captures from here on.
  func install() throws(NetfilterError) {
    _ = installer.watch.take()
    try installer.install(policy)
    isInstalled = true
    record.note(policy)
    settings = SettingWatch(
      interfaces: policy.gateway?.interfaces ?? [], forwards: policy.gateway != nil)
  }

  /// Changes the policy in place; after a failure the former one goes on.
  func change(_ update: (inout RedirectPolicy) -> Void) throws(NetfilterError) {
    var changed = policy
    update(&changed)
    guard changed != policy else { return }
    try installer.install(changed)
    policy = changed
    record.note(changed)
  }

  /// Takes the rules and routes away, except what keeps a closed exit closed.
  func remove() throws(NetfilterError) {
    isInstalled = false
    record.note { $0.phase = nil }
    try installer.remove(keepsGuard: policy.exit == .closed)
    installer.forgetFlows(of: policy)
  }

  /// Leaves the rules and routes in place for the next run.
  func leave() {
    isInstalled = false
    record.note { $0.phase = nil }
  }

  // MARK: Guarding

  /// Looks at what others have changed, puts it back and tells it.
  func handleChanges() {
    let changes = installer.watch.take()
    guard isInstalled else { return }
    if changes.contains(.tables) { restoreTables() }
    if changes.contains(.routing) { restoreRouting() }
    if changes.contains(.settings) { tellSettings() }
  }

  /// Tells settings that have changed; not all of them are notified by the kernel.
  func tellSettings() {
    for line in settings.changes() {
      record.note { $0.changedSettings += 1 }
      log.warning(
        "somebody changed a kernel setting: \(line)", metadata: ["event": "setting_changed"])
    }
  }

  private func restoreTables() {
    do {
      try installer.restore(policy)
      tellRestored("rules of table \(RedirectPolicy.guardTableName)")
    } catch {
      tell(trouble: "\(error)")
    }
  }

  private func restoreRouting() {
    do {
      let restored = try installer.restoreRouting()
      forgetTrouble()
      if !restored.isEmpty { tellRestored(restored.joined(separator: ", ")) }
    } catch {
      tell(trouble: "\(error)")
    }
  }

  private func tellRestored(_ what: String) {
    forgetTrouble()
    record.note { $0.restored += 1 }
    log.warning(
      "somebody took away what capturing needs, put back: \(what)",
      metadata: ["event": "restored", "what": .string(what)])
  }

  private func forgetTrouble() {
    toldTrouble = nil
    record.note { $0.trouble = nil }
  }

  private func tell(trouble: String) {
    guard trouble != toldTrouble else { return }
    toldTrouble = trouble
    record.note { $0.trouble = trouble }
    log.warning(
      "cannot put back what somebody took away (\(trouble)), trying again at the next change",
      metadata: ["event": "not_restored"])
  }
}
