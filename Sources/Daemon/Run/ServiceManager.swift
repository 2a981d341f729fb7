internal import Addressing
internal import LinuxIO
internal import Logging

/// The service manager that has started this process, where it wants to be told how that goes
/// (`sd_notify(3)`): it names a Unix socket in the environment, and every change is one datagram there, of
/// lines `NAME=value`. Where nobody wants it nothing is sent.
final class ServiceManager {
  /// Has the path of its socket, or an abstract name behind `@`.
  private static let socketVariable = "NOTIFY_SOCKET"
  /// Microseconds after which it takes a process that says nothing for stuck, and which process that is.
  private static let watchdogVariable = "WATCHDOG_USEC"
  private static let watchedVariable = "WATCHDOG_PID"

  /// How many descriptors it keeps for the process that comes after this one. systemd sets it since version
  /// 254, and units for earlier ones set it themselves (`sd_pid_notify_with_fds(3)`).
  private static let storeVariable = "FDSTORE"

  /// Unicode scalars of four bytes at most, so that a message has room on the line.
  private static let maximumStatusScalars = 900

  private let line: DescriptorLine?
  private let log: Logger
  /// How often it has to be told that this process lives; nil: never.
  let heartbeat: Timeout?
  /// How many descriptors it keeps; zero: none.
  let storedDescriptors: Int
  /// Told once that it does not hear us.
  private var isLost = false

  /// Takes its variables out of the environment, which programs that this process starts shall not speak for.
  init(log: Logger) {
    self.log = log
    let place = EnvironmentVariable.take(Self.socketVariable)
    let watched = EnvironmentVariable.take(Self.watchedVariable).map { $0 == "\(System.processID)" }
    let period = EnvironmentVariable.take(Self.watchdogVariable).flatMap { UInt64($0) }
    if let place { line = Self.line(to: place, log) } else { line = nil }
    let room = EnvironmentVariable.take(Self.storeVariable).flatMap { Int($0) } ?? 0
    storedDescriptors = line == nil ? 0 : max(room, 0)
    // Twice as often, as sd_watchdog_enabled(3) has it.
    let isWatched = place != nil && watched != false && period != 0
    heartbeat = period.flatMap {
      isWatched ? Timeout(milliseconds: UInt32(clamping: max(1, $0 / 2000))) : nil
    }
  }

  /// What can be asked of it is there now.
  func tellReady(_ status: String) { tell("READY=1", status) }

  func tellStopping(_ status: String) { tell("STOPPING=1", status) }

  func tellAlive() { tell("WATCHDOG=1") }

  /// It waits from this to `tellReady` before it says that it has reloaded.
  func tellReloading() {
    tell("RELOADING=1\nMONOTONIC_USEC=\(Instant.now().milliseconds * 1000)")
  }

  /// Has it keep copies for the process that comes after this one, whatever happens to them meanwhile.
  /// - Parameter name: without colons, 255 characters at most.
  func store(_ descriptors: [Int32], as name: String) {
    var rest = descriptors[...]
    while !rest.isEmpty {
      let part = Array(rest.prefix(DescriptorLine.maximumDescriptors))
      rest = rest.dropFirst(part.count)
      tell("FDSTORE=1\nFDPOLL=0\nFDNAME=\(name)", part)
    }
  }

  /// Has it close the copies of that name.
  func forget(_ name: String) { tell("FDSTOREREMOVE=1\nFDNAME=\(name)") }

  /// - Parameter status: for people, who ask the service manager.
  private func tell(_ change: String, _ status: String) {
    let oneLine = status.split(whereSeparator: \.isNewline).joined(separator: " ")
    let scalars = oneLine.unicodeScalars.prefix(Self.maximumStatusScalars)
    tell("\(change)\nSTATUS=\(String(String.UnicodeScalarView(scalars)))")
  }

  private func tell(_ lines: String, _ descriptors: [Int32] = []) {
    do {
      try line?.send(Array(lines.utf8), descriptors)
    } catch {
      guard !isLost else { return }
      isLost = true
      log.warning(
        "the service manager does not hear (\(error)), ignoring",
        metadata: ["event": "no_service_manager"])
    }
  }

  // MARK: Environment

  private static func line(to place: String, _ log: Logger) -> DescriptorLine? {
    do throws(Errno) {
      // What precedes an abstract name in the kernel's address takes as much room as the end of a path.
      guard place.utf8.count <= SocketPath.maximumBytes else { throw .invalidArgument }
      if place.hasPrefix("@") { return try .to(name: String(place.dropFirst())) }
      guard let path = SocketPath(Array(place.utf8)) else { throw .invalidArgument }
      return try .to(path)
    } catch {
      log.warning(
        "cannot tell the service manager at \(place) anything (\(error)), ignoring",
        metadata: ["event": "no_service_manager"])
      return nil
    }
  }
}
