import Addressing
import Configuration
import Testing

struct BlockListTests {
  @Test func readsBlocksAndLeavesTheRest() throws {
    let text = "# head\n10.0.0.0/8\n\n  2001:db8::/32\t# here\r\n192.0.2.1"
    let blocks = try BlockList.parse(text, path: "list")
    #expect(blocks.map(\.description) == ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"])
    #expect(try BlockList.parse("", path: "list").isEmpty)
  }

  @Test(arguments: ["10.0.0.1/8", "example.org", "10.0.0.0/8 11.0.0.0/8", "10.0.0.0/33"])
  func namesFileAndLine(_ line: String) {
    let error = #expect(throws: ConfigurationError.self) {
      try BlockList.parse("# one\n1.1.1.1\n\(line)\n", path: "/etc/list")
    }
    #expect(error?.description.hasPrefix("/etc/list:3: \(line)") == true)
  }
}
