internal import LinuxIO

/// Secrets that must not stand in the arguments, where every user of the host can read them.
package enum Secret {
  /// The first line of a file, without its end of line.
  package static func firstLine(of path: String) throws(CommandFailure) -> String {
    guard let contents = readFile(path) else {
      throw CommandFailure("cannot read \(path): check that it exists and may be read", .usage)
    }
    let line = contents.prefix { !$0.isNewline }
    guard !line.isEmpty else { throw CommandFailure("\(path): the first line is empty", .usage) }
    return String(line)
  }
}
