import SOCKS
import Testing

@testable import Daemon

struct UsersFileTests {
  @Test func everyLineIsAUser() throws {
    let users = try UsersFile.users(
      in: "# who may\nalice:one\n\nbob:two:three # four\r\ncarol: five \n")
    #expect(
      try users == [
        Credentials(username: "alice", password: "one"),
        Credentials(username: "bob", password: "two:three # four"),
        Credentials(username: "carol", password: " five "),
      ])
  }

  /// With the number of the line, and without what it holds.
  @Test(arguments: [
    ("", ": it names no user"), ("# nobody\n", ": it names no user"),
    ("alice:one\nsecret\n", ":2: expected USER:PASSWORD"),
    (":secret", ":1: the user name is empty"),
    ("\nalice:\n", ":2: the password is empty"),
    ("alice:one\nbob:two\nalice:secret", ":3: this user has a line above"),
    ("alice:" + String(repeating: "s", count: 256), ":1: the password is longer than 255 bytes"),
    (String(repeating: "s", count: 256) + ":p", ":1: the user name is longer than 255 bytes"),
  ])
  func problems(_ contents: String, _ expected: String) {
    do {
      _ = try UsersFile.users(in: contents)
      Issue.record("nothing is wrong with it")
    } catch {
      #expect("\(error)" == expected)
    }
  }
}
