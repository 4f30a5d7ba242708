"""Backpropagation by hand: the four equations of the notes, on real digits.

Two dense layers with sigmoids and the least-squares loss. The gradients are written out with the library's functions,
equation by equation, and give the same steps as `layers.Sequential`.
"""

import numpy as np

import convgrad
from common import digits, options, save
from convgrad import layers, plots
from convgrad.optimizers import SGD


def gradients(weights, x, y):
    """Loss, predictions and the gradients of (W1, b1, W2, b2), for a batch."""
    w1, b1, w2, b2 = weights
    a1 = convgrad.sigmoid(convgrad.linear(x, w1, b1))  # eq. 5: z = W a + b
    a2 = convgrad.sigmoid(convgrad.linear(a1, w2, b2))
    loss, nabla = convgrad.least_squares(a2, y)  # eq. 1, divided by the batch size
    delta2 = convgrad.sigmoid_backward(nabla, a2)  # eq. 3: nabla L times sigma'(z)
    grad_a1, grad_w2, grad_b2 = convgrad.linear_backward(delta2, a1, w2)  # eq. 12, 13, and W^T delta
    delta1 = convgrad.sigmoid_backward(grad_a1, a1)  # eq. 8
    _, grad_w1, grad_b1 = convgrad.linear_backward(delta1, x, w1)
    return loss, a2, (grad_w1, grad_b1, grad_w2, grad_b2)


def main(arguments=None):
    chosen = options(__doc__, epochs=30).parse_args(arguments)
    (x, labels), (x_test, labels_test) = digits()
    x, x_test = x.reshape(len(x), 64), x_test.reshape(len(x_test), 64)
    y = np.eye(10, dtype=np.float32)[labels]
    first, second = layers.Dense(64, 32, activation="sigmoid", rng=0), layers.Dense(32, 10, activation="sigmoid", rng=1)
    model = layers.Sequential([first, second])
    weights = [parameter.data.copy() for parameter in model.parameters()]
    optimizer, rng = SGD(2.0), np.random.default_rng(0)
    history = {"loss": [], "accuracy": []}
    for _ in range(2 if chosen.quick else chosen.epochs):
        losses, right = [], 0
        for batch in np.array_split(rng.permutation(len(x)), 45):
            loss, prediction, grads = gradients(weights, x[batch], y[batch])
            for weight, grad in zip(weights, grads, strict=True):
                weight -= np.float32(2.0) * grad
            losses.append(loss)
            right += int((prediction.argmax(axis=1) == labels[batch]).sum())
            # the same with layers
            _, nabla = convgrad.least_squares(model(x[batch]), y[batch])
            model.backward(nabla, input_grad=False)
            optimizer.step(model.parameters())
        history["loss"].append(float(np.mean(losses)))
        history["accuracy"].append(right / len(x))
    difference = max(float(np.abs(w - p.data).max()) for w, p in zip(weights, model.parameters(), strict=True))
    accuracy = float((model(x_test).argmax(axis=1) == labels_test).mean())
    print(f"epoch {len(history['loss'])}: loss {history['loss'][-1]:.4f}, held-out accuracy {accuracy:.2%}")
    print(f"largest difference between the weights by hand and by layers: {difference:.1e}")
    save(plots.learning_curve(history), chosen.output, "backpropagation.png")
    return {"accuracy": accuracy, "difference": difference}


if __name__ == "__main__":
    main()
