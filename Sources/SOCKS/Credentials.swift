/// A user name and a password of 1 to 255 bytes each (RFC 1929, section 2).
package struct Credentials: Hashable, Sendable {
  let username: [UInt8]
  let password: [UInt8]
  /// What flows fill in; nil: the same for all.
  var template: Template?

  package init(
    username: some Sequence<UInt8>, password: some Sequence<UInt8>
  ) throws(CredentialsError) {
    self.username = Array(username)
    self.password = Array(password)
    guard !self.username.isEmpty else { throw .emptyUsername }
    guard self.username.count <= Authentication.maximumFieldBytes else { throw .usernameTooLong }
    guard !self.password.isEmpty else { throw .emptyPassword }
    guard self.password.count <= Authentication.maximumFieldBytes else { throw .passwordTooLong }
  }

  /// The UTF-8 bytes of both.
  package init(username: String, password: String) throws(CredentialsError) {
    try self.init(username: username.utf8, password: password.utf8)
  }
}

/// Why two strings cannot be credentials.
package enum CredentialsError: Error, Hashable, Sendable {
  case emptyUsername
  case usernameTooLong
  case emptyPassword
  case passwordTooLong
  /// HTTP cannot carry it.
  case colonInUsername
}

extension CredentialsError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .emptyUsername: "the user name is empty"
    case .usernameTooLong: "the user name is longer than 255 bytes"
    case .emptyPassword: "the password is empty"
    case .passwordTooLong: "the password is longer than 255 bytes"
    case .colonInUsername: "the user name has a colon, which HTTP cannot carry"
    }
  }
}

extension Credentials: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// The password is never shown.
  package var description: String { "\(String(decoding: username, as: UTF8.self)):***" }
  package var debugDescription: String { description }
  package var customMirror: Mirror { Mirror(self, children: []) }
}

/// The users of a server, each with a password.
package struct Logins: Hashable, Sendable {
  private let users: [Credentials]

  /// Nil without any: nobody could log in.
  package init?(_ users: [Credentials]) {
    guard !users.isEmpty else { return nil }
    self.users = users
  }

  /// Those of one user.
  package init(_ user: Credentials) { users = [user] }

  /// Whether `attempt` is a user with the right password.
  ///
  /// The time depends on the lengths that were sent and on how many users there are, not on the expected
  /// bytes: it is compared with all of them, and to its end even when the first byte differs.
  func accept(_ attempt: Authentication) -> Bool {
    var isAccepted = false
    for user in users where user.difference(from: attempt) == 0 { isAccepted = true }
    return isAccepted
  }
}

extension Credentials {
  /// Zero if `attempt` is the same user and password.
  fileprivate func difference(from attempt: Authentication) -> Int {
    Self.difference(attempt.username, expected: username)
      | Self.difference(attempt.password, expected: password)
  }

  /// Zero if both are the same; `expected` is not empty.
  private static func difference(_ received: [UInt8], expected: [UInt8]) -> Int {
    var difference = received.count ^ expected.count
    for index in received.indices {
      difference |= Int(received[index] ^ expected[min(index, expected.count - 1)])
    }
    return difference
  }
}
