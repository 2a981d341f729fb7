internal import LinuxIO
package import Logging

/// Secrets that must not stand in the arguments, where every user of the host can read them.
package enum Secret {
  /// The password on the first line of a file, not empty, without its end of line.
  package static func firstLine(
    of path: String, _ log: Logger
  ) throws(CommandFailure) -> [UInt8] {
    let line: FirstLine
    do {
      line = try FirstLine(of: path)
    } catch {
      throw CommandFailure("cannot read the password in \(path): \(error)", .usage)
    }
    guard !line.bytes.isEmpty else {
      throw CommandFailure("\(path): the first line is empty: expected the password", .usage)
    }
    if line.isPublic {
      log.warning(
        "every user may read the password in \(path): chmod o-r \(path)",
        metadata: ["event": "public_password", "file": .string(path)])
    }
    return line.bytes
  }
}
