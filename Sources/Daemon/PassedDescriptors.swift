internal import LinuxIO

/// What a service manager has this process start with (`sd_listen_fds(3)`): descriptors from 3 on, each with a
/// name, where the environment says that they are for this process.
enum PassedDescriptors {
  private static let countVariable = "LISTEN_FDS"
  private static let processVariable = "LISTEN_PID"
  private static let namesVariable = "LISTEN_FDNAMES"
  /// SD_LISTEN_FDS_START.
  private static let first: Int32 = 3
  /// Of descriptors that are looked at.
  private static let maximumCount: Int32 = 4096

  /// Their numbers and names, which may be empty; nothing the second time. Whether they are open is for the
  /// caller to see, before anything else is opened.
  static func take() -> [(number: Int32, name: String)] {
    let process = EnvironmentVariable.take(processVariable)
    let count = EnvironmentVariable.take(countVariable).flatMap { Int32($0) } ?? 0
    let names =
      EnvironmentVariable.take(namesVariable)?
      .split(separator: ":", omittingEmptySubsequences: false) ?? []
    guard process == "\(System.processID)", count > 0 else { return [] }
    return (0..<min(count, maximumCount)).map { index in
      (first + index, Int(index) < names.count ? String(names[Int(index)]) : "")
    }
  }
}
