using System.Text.Json;
using NUnit.Framework;
using SieveAttention.Cli.Benchmarks;
using SieveAttention.Cli.Commands;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Cli;

/// <summary><c>sieve bench</c> on the Cpu device with shapes small enough for every machine.</summary>
internal sealed class BenchCommandTests
{
    private static readonly string[] s_tiny =
        ["bench", "--device", "cpu", "--batch", "1", "--heads", "2", "--keys", "32", "--head-dim", "8", "--runs", "3"];

    [Test]
    public void The_table_has_a_row_for_each_operator_and_direction_and_the_ceilings()
    {
        ToolRun run = ToolRun.Of([.. s_tiny, "--progress"]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
        string[] lines = run.Out.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Multiple(() =>
        {
            Assert.That(lines[0], Does.StartWith("cpu: float32"));
            Assert.That(lines[1], Does.StartWith("ceilings: copy ").And.Contain("B/s read and written").And.Contain("FLOP/s (fused"));
            Assert.That(lines[2].Split(' ', StringSplitOptions.RemoveEmptyEntries), Is.EqualTo(
                (string[])["operator", "direction", "shape", "dtype", "path", "median", "spread", "rate", "of", "ceiling", "note"]));
            Assert.That(Row("softmax", "forward"), Does.Contain("B1 H2 N32 D8 causal").And.Contain("F32").And.Contain("-bit"));
            Assert.That(Row("softmax", "backward"), Does.Contain("with the forward pass"));
            Assert.That(Row("softmax", "decode"), Does.Contain("B1 H2 Tq1 Tk32 D8 causal").And.Contain("B/s"));
            Assert.That(Row("tda", "forward"), Does.Contain("FLOP/s"));
            Assert.That(Row("tda", "backward"), Does.Contain(" %"));
            Assert.That(Row("tda", "decode"), Does.Contain("B1 H2 Tq1 Tk32 D8 causal").And.Contain("B/s").And.Contain("keys; beta 1"));
            Assert.That(Row("diff", "forward"), Does.Contain("lambda 0.3"));
            Assert.That(Row("diff_v2", "backward"), Does.Contain("FLOP/s"));
            Assert.That(lines, Has.Length.EqualTo(13));
            Assert.That(run.Error, Does.Contain("[1/11] cpu: ceilings").And.Contain("softmax decode"));
        });

        string Row(string name, string direction) =>
            lines.Single(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries) is [var first, var second, ..]
                && first == name && second == direction);
    }

    [Test]
    public void The_json_object_holds_every_number_that_the_table_rounds()
    {
        ToolRun run = ToolRun.Of([.. s_tiny, "--operator", "softmax", "--direction", "forward,decode", "--window", "5", "--json", "-"]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
        using JsonDocument document = JsonDocument.Parse(run.Out);
        JsonElement root = document.RootElement;
        JsonElement ceilings = root.GetProperty("ceilings");
        JsonElement[] rows = [.. root.GetProperty("rows").EnumerateArray()];
        Assert.Multiple(() =>
        {
            Assert.That(root.GetProperty("format").GetString(), Is.EqualTo(BenchReport.Format));
            Assert.That(root.GetProperty("device").GetProperty("name").GetString(), Is.EqualTo("cpu"));
            Assert.That(root.GetProperty("device").GetProperty("clock").GetString(), Is.EqualTo("host"));
            Assert.That(ceilings.GetProperty("copy_bytes_per_second").GetDouble(), Is.Positive);
            Assert.That(ceilings.GetProperty("flops_per_second").GetDouble(), Is.Positive);
            Assert.That(rows, Has.Length.EqualTo(2));
            Assert.That(rows[0].EnumerateObject().Select(property => property.Name), Is.EqualTo((string[])
            [
                "operator", "direction", "dtype", "path", "repeatability", "batch", "query_heads", "key_heads", "queries", "keys",
                "head_dim", "value_dim", "causal", "window", "screen", "sets", "runs", "median_ms", "least_ms", "p10_ms", "p90_ms", "operations",
                "cache_bytes_read", "flops_per_second", "bytes_per_second", "share_of_ceiling", "note",
            ]));
            Assert.That(rows[0].GetProperty("window").GetInt32(), Is.EqualTo(5));
            Assert.That(rows[0].GetProperty("runs").GetInt32(), Is.EqualTo(3));
            Assert.That(rows[0].GetProperty("queries").GetInt32(), Is.EqualTo(32));
            // Rows 0 to 3 see 1 to 4 keys, the others 5; two heads; 4 D operations a pair.
            Assert.That(rows[0].GetProperty("operations").GetDouble(), Is.EqualTo(2 * (10 + (28 * 5)) * 4 * 8));
            Assert.That(rows[0].GetProperty("bytes_per_second").ValueKind, Is.EqualTo(JsonValueKind.Null));
            Assert.That(rows[1].GetProperty("queries").GetInt32(), Is.EqualTo(1));
            Assert.That(rows[1].GetProperty("cache_bytes_read").GetDouble(), Is.EqualTo(2 * 2 * 32 * 8 * 4));
            Assert.That(rows[1].GetProperty("bytes_per_second").GetDouble(), Is.Positive);
        });
    }

    [Test]
    public void The_json_object_can_go_to_a_file_beside_the_table()
    {
        using ScratchFolder folder = new();
        string file = folder["bench.json"];
        ToolRun run = ToolRun.Of([.. s_tiny, "--operator", "tda", "--direction", "forward", "--full", "--json", file]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
        Assert.That(run.Out, Does.Contain("B1 H2 N32 D8 full").And.Contain($"written to {file}"));
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(file));
        Assert.That(document.RootElement.GetProperty("rows").GetArrayLength(), Is.EqualTo(1));
    }

    [Test]
    public void What_cannot_be_measured_is_refused_before_anything_runs()
    {
        ToolRun.Of("bench", "case.safetensors").AssertRefused("found the operand 'case.safetensors'", "allowed: none");
        ToolRun.Of("bench", "--operator", "softmax,entmx").AssertRefused("--operator", "'entmx'", "softmax, tda");
        ToolRun.Of("bench", "--direction", "sideways").AssertRefused("--direction", "forward, backward, decode");
        ToolRun.Of("bench", "--device", "gpu").AssertRefused("'gpu' is not a device");
        ToolRun.Of("bench", "--runs", "0").AssertRefused("--runs", "1 to 10000");
        ToolRun.Of("bench", "--dtype", "fp8").AssertRefused("--dtype", "bf16, fp16");
        ToolRun.Of("bench", "--path", "ampere").AssertRefused("--path", "automatic, generic, hopper");
        ToolRun.Of("bench", "--device", "cpu", "--heads", "6", "--key-heads", "4").AssertRefused("--key-heads", "a divisor");
        ToolRun.Of("bench", "--json", "/nowhere/at/all.json").AssertRefused("--json", "a directory that exists");
        ToolRun.Of("bench", "--device", "cpu", "--direction", "decode", "--queries", "9", "--keys", "8").AssertRefused("--queries", "at most as many");
    }

    [Test]
    public void Quantiles_lie_between_the_runs()
    {
        BenchTiming timing = new([5, 1, 3, 2, 4]);
        Assert.Multiple(() =>
        {
            Assert.That(timing.Runs, Is.EqualTo(5));
            Assert.That(timing.Median, Is.EqualTo(3));
            Assert.That(timing.Least, Is.EqualTo(1));
            Assert.That(timing.Low, Is.EqualTo(1.4).Within(1e-12));
            Assert.That(timing.High, Is.EqualTo(4.6).Within(1e-12));
            Assert.That(timing.Spread, Is.EqualTo(1.6 / 3).Within(1e-12));
        });
    }
}

/// <summary><c>sieve bench</c> on a GPU: device time, and shares of ceilings that are ceilings.</summary>
[TestFixture(KernelPath.Generic)]
[TestFixture(KernelPath.Hopper)]
internal sealed class BenchCommandDeviceTests(KernelPath path) : GpuFixture
{
    private string Path => path.ToString().ToLowerInvariant();

    [SetUp]
    public void RequirePath()
    {
        if (!Device.Supports(AttentionOperation.Softmax, AttentionDirection.Forward, path, TensorType.BFloat16, 64, 64, out string reason))
        {
            Assert.Ignore(reason);
        }
    }

    [Test]
    public void Every_operator_and_direction_has_a_share_of_the_ceiling_that_limits_it([Values("bf16", "fp16")] string type)
    {
        ToolRun run = ToolRun.Of(
            "bench", "--device", "cuda", "--batch", "2", "--heads", "16", "--keys", "2048", "--head-dim", "64", "--runs", "5", "--dtype", type,
            "--path", Path, "--json", "-");
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
        using JsonDocument document = JsonDocument.Parse(run.Out);
        JsonElement root = document.RootElement;
        JsonElement[] rows = [.. root.GetProperty("rows").EnumerateArray()];
        Assert.Multiple(() =>
        {
            Assert.That(root.GetProperty("device").GetProperty("clock").GetString(), Is.EqualTo("device events"));
            Assert.That(root.GetProperty("ceilings").GetProperty("copy_bytes_per_second").GetDouble(), Is.GreaterThan(1e11));
            Assert.That(root.GetProperty("ceilings").GetProperty("flops_per_second").GetDouble(), Is.GreaterThan(1e13));
            string[] expected =
            [
                "softmax forward none", "softmax backward none", "softmax decode none", "tda forward none", "tda backward none", "tda decode none",
                "tda decode int8", "tda decode int4", "diff forward none", "diff backward none", "diff_v2 forward none", "diff_v2 backward none",
            ];
            Assert.That(
                rows.Select(row => $"{row.GetProperty("operator")} {row.GetProperty("direction")} {row.GetProperty("screen")}"),
                Is.EquivalentTo(expected));
            foreach (JsonElement row in rows)
            {
                // Backward and decode of tda have the generic family only: a row that says so.
                if (row.GetProperty("median_ms").ValueKind == JsonValueKind.Null)
                {
                    Assert.That((row.GetProperty("operator").GetString(), path), Is.EqualTo(("tda", KernelPath.Hopper)), row.ToString());
                    continue;
                }

                Assert.That(row.GetProperty("path").GetString(), Is.EqualTo(Path));
                Assert.That(row.GetProperty("median_ms").GetDouble(), Is.Positive);
                // A cache that is read but not written may come a little faster than a copy.
                Assert.That(row.GetProperty("share_of_ceiling").GetDouble(), Is.Positive.And.LessThan(1.3), row.ToString());
            }
        });
    }

    [Test]
    public void Products_have_a_kernel_of_each_path([Values(TensorType.BFloat16, TensorType.Float16)] TensorType type)
    {
        using DeviceTimer timer = new(Device);
        Device.RunProducts(path, type);
        timer.Start();
        double operations = Device.RunProducts(path, type);
        timer.Stop();
        Assert.That(operations / timer.Elapsed() * 1e3, Is.InRange(1e13, 2e16), "floating-point operations in a second");
    }
}
