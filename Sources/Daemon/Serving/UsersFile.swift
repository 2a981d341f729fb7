internal import LinuxIO
internal import SOCKS

/// The users of a server: one `USER:PASSWORD` on each line. The first colon ends the name, and what
/// follows is the password to the end of the line, blanks included. Lines that are empty or begin with `#`
/// say nothing. No message shows what a line holds: it may be a password.
enum UsersFile {
  /// Everybody in a file, at least one.
  static func users(of path: String) throws(CommandFailure) -> [Credentials] {
    guard let contents = readFile(path) else {
      throw CommandFailure("cannot read \(path): check that it exists and may be read", .usage)
    }
    do {
      return try users(in: contents)
    } catch {
      throw CommandFailure("\(path)\(error)", .usage)
    }
  }

  static func users(in contents: String) throws(Problem) -> [Credentials] {
    var users: [Credentials] = []
    var names: Set<Substring> = []
    let lines = contents.split(omittingEmptySubsequences: false) { $0.isNewline }
    for (index, line) in lines.enumerated() {
      if line.isEmpty || line.first == "#" { continue }
      guard let colon = line.firstIndex(of: ":") else {
        throw Problem(line: index + 1, text: "expected USER:PASSWORD")
      }
      let name = line[..<colon]
      do {
        users.append(
          try Credentials(
            username: name.utf8, password: line[line.index(after: colon)...].utf8))
      } catch {
        throw Problem(line: index + 1, text: "\(error)")
      }
      guard names.insert(name).inserted else {
        throw Problem(line: index + 1, text: "this user has a line above")
      }
    }
    guard !users.isEmpty else { throw Problem(line: nil, text: "it names no user") }
    return users
  }

  /// What is wrong, to be put behind the file's path.
  struct Problem: Error, Equatable, CustomStringConvertible {
    /// From 1 on; nil: of the file as a whole.
    let line: Int?
    let text: String

    var description: String { (line.map { ":\($0)" } ?? "") + ": \(text)" }
  }
}
