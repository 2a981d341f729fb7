import Addressing
import DataPlane
import Foundation
import Testing

@testable import Daemon

struct AuditReportTests {
  private struct Parsed: Decodable, Equatable {
    struct Destination: Decodable, Equatable {
      let `protocol`: String
      let address: String
      let port: Int
      let name: String?
      let flows, failed, sent, received: Int
    }

    struct Omitted: Decodable, Equatable {
      let flows, failed, sent, received: Int
    }

    let event: String
    let destinations: [Destination]
    let omitted: Omitted
  }

  private func report(omitted: Audit.Traffic = Audit.Traffic()) throws -> AuditReport {
    let v4 = try #require(SocketAddress("192.0.2.7:443"))
    let v6 = try #require(SocketAddress("[2001:db8::53]:53"))
    return AuditReport(
      [
        Audit.Entry(
          destination: .init(.tcp, v4),
          traffic: .init(flows: 3, failed: 1, sent: 100, received: 2048),
          name: "a\"b.example"),
        Audit.Entry(
          destination: .init(.udp, v6), traffic: .init(flows: 1, failed: 0, sent: 5, received: 0),
          name: nil),
      ], omitted: omitted)
  }

  @Test func jsonSaysEverything() throws {
    let text = try report(omitted: .init(flows: 9, failed: 0, sent: 8, received: 7)).json
    #expect(text.filter { $0 == "\n" }.count == 1 && text.hasSuffix("\n"))
    let parsed = try JSONDecoder().decode(Parsed.self, from: Data(text.utf8))
    #expect(
      parsed
        == Parsed(
          event: "audit",
          destinations: [
            .init(
              protocol: "tcp", address: "192.0.2.7", port: 443, name: "a\"b.example", flows: 3,
              failed: 1, sent: 100, received: 2048),
            .init(
              protocol: "udp", address: "2001:db8::53", port: 53, name: nil, flows: 1, failed: 0,
              sent: 5, received: 0),
          ], omitted: .init(flows: 9, failed: 0, sent: 8, received: 7)))
  }

  @Test func tableHasEqualColumns() throws {
    #expect(
      try report().table == """
             destination        name         flows  failed   sent  received
        tcp  192.0.2.7:443      a"b.example      3       1  100 B   2.0 KiB
        udp  [2001:db8::53]:53  -                1       0    5 B       0 B

        """)
  }

  @Test func othersAreSummedUp() throws {
    let table = try report(omitted: .init(flows: 9, failed: 0, sent: 8, received: 7)).table
    #expect(table.split(separator: "\n").last?.contains("others") == true)
    #expect(try !report().table.contains("others"))
  }
}
