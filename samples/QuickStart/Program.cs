using SieveAttention;

using AttentionDevice device = AttentionDevice.Best(); // a GPU where one is usable, else the CPU; a logger hears why
ThresholdDifferentialAttention attention = new(device, new() { Beta = 0.8, Lambda = 0.3 });

TensorShape shape = new(Batch: 1, Heads: 4, Rows: 512, Channels: 64);
Random random = new(1);
AttentionTensor Tensor() =>
    AttentionTensor.From<Half>(Array.ConvertAll(new Half[shape.Count], _ => (Half)(random.NextDouble() - 0.5)), shape).To(device);

using ThresholdDifferentialResult result = attention.Forward(
    new() { Query1 = Tensor(), Key1 = Tensor(), Query2 = Tensor(), Key2 = Tensor(), Value = Tensor() });

double visible = shape.Heads * (shape.Rows * (shape.Rows + 1) / 2.0); // causal: row i sees i + 1 keys
double kept = result.Survivors1.ToHost().AsSpan<int>().ToArray().Sum();
Console.WriteLine($"{device.Name}: output {result.Output.Shape}, {kept / visible:P1} of the weights of view 1 are not zero");
