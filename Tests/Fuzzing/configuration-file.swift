internal import Configuration
internal import ConfigurationFile

/// The input is a configuration file. Either every fault is at a place that the file has, or there are
/// settings: the same again when read again, of which those that flags name give way, and whose
/// faults together are at a place of the file, too, where one of them is named.
func fuzz(_ input: Span<UInt8>) {
  let bytes = input.indices.map { input[$0] }
  do throws(Problems) {
    let file = try ConfigurationFile(bytes)
    let options = file.options(under: Options())
    let again = try ConfigurationFile(bytes)
    precondition(again.options(under: Options()) == options, "is something else when read again")
    precondition(file.options(under: options) == options, "adds to flags that say the same")
    do throws(ConfigurationError) {
      _ = try Configuration(options)
    } catch {
      if let problem = file.problem(error) { check(problem, in: bytes) }
    }
  } catch {
    precondition(!error.all.isEmpty, "is faulty without a fault")
    for problem in error.all { check(problem, in: bytes) }
  }
}

/// libyaml counts every line break of YAML 1.1, of which each byte of the input may be one at most.
private func check(_ problem: Problem, in bytes: [UInt8]) {
  precondition(!problem.text.isEmpty, "has a fault that is not told")
  let (line, column) = (problem.place.line, problem.place.column)
  precondition((1...bytes.count + 1).contains(line), "has a fault at a line that it has not")
  precondition((1...bytes.count + 1).contains(column), "has a fault at a column that it has not")
}
